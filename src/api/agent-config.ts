// The agent's configuration: one TOML file, rendered by the NixOS module (services.slipway.agent.settings).
// Every secret value is a reference, never the value itself; times are seconds.
import * as z from 'zod/mini';
import { hostName, rebootPolicy } from './fleet-config.ts';
import { secretReference } from './secret-reference.ts';

const httpUrl = z
  .string()
  .check(z.regex(/^https?:\/\/[^\s"'\\@]+$/, 'not an http(s) URL without credentials'));
const absolutePath = z.string().check(z.regex(/^\/[^\0\n]*$/, 'not an absolute path'));

/** A Nix public key, `name:base64` of 32 bytes. */
const publicKey = z
  .string()
  .check(z.regex(/^[A-Za-z0-9._+-]{1,128}:[A-Za-z0-9+/]{43}=$/, 'not a public key (name:base64)'));

const seconds = (fallback: number): z.ZodMiniDefault<z.ZodMiniNumberFormat> =>
  z._default(z.int().check(z.minimum(1), z.maximum(86_400)), fallback);

const remote = z.strictObject({
  /** Any URL git understands. Credentials have settings of their own: a URL is shown and logged. */
  url: z.string().check(z.regex(/^(?!-)(?!\w+:\/\/[^/]*:[^/]*@)\S+$/, 'not a git URL without a password')),
  branch: z._default(
    z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, 'not a branch name')),
    'release',
  ),
  /** Seconds between two polls. */
  poll: seconds(60),
  /** HTTP user name that goes with `token`. */
  username: z._default(z.string().check(z.regex(/^[A-Za-z0-9._@-]+$/)), 'slipway'),
  token: z.optional(secretReference),
  /** Private key file for ssh URLs. */
  sshKey: z.optional(absolutePath),
  /** known_hosts file that must hold the forge's key; default: ssh's own. */
  knownHostsFile: z.optional(absolutePath),
});

const cache = z.strictObject({ url: z.string().check(z.regex(/^[^\s]+$/)), publicKeys: z.array(publicKey) });

export const agentConfig = z.strictObject({
  host: hostName,
  /** Asked in this order; the newest release wins, the earlier remote when two offer the same. */
  remotes: z.array(remote).check(z.minLength(1, 'at least one remote is needed')),
  /** Keys that may sign a manifest. */
  releaseKeys: z.array(publicKey).check(z.minLength(1, 'at least one release key is needed')),
  /** Caches beside those that the signed manifest names. */
  caches: z._default(z.array(cache), []),
  /** Credentials of the caches, in netrc form, for nix itself to read. */
  netrcFile: z.optional(absolutePath),
  controller: z.optional(z.strictObject({ url: httpUrl, token: secretReference })),
  /** What must still be reachable from the host in a trial, if it was before. */
  probes: z.prefault(
    z.strictObject({
      remote: z._default(z.boolean(), true),
      cache: z._default(z.boolean(), true),
      controller: z._default(z.boolean(), true),
      /** What to do when no probe passes before a trial, so that none could tell a broken network. */
      whenBlind: z._default(z.enum(['proceed', 'hold']), 'hold'),
    }),
    {},
  ),
  timeouts: z.prefault(
    z.strictObject({
      fetch: seconds(300),
      realise: seconds(1800),
      build: seconds(3600),
      lock: seconds(120),
      activation: seconds(240),
      /** How long the probes may fail in a trial before it is given up. */
      probe: seconds(120),
      commit: seconds(120),
      rollback: seconds(240),
      /** A boot trial's reboot, until the new system has settled. */
      boot: seconds(600),
    }),
    {},
  ),
  /** Refuse a release older than this, in seconds; 0: any age. */
  maxReleaseAge: z._default(z.int().check(z.minimum(0)), 0),
  /** The host's own word on reboots, over that of the release. */
  reboot: z.optional(rebootPolicy),
  /** Go back to the release when somebody switched the host by hand. */
  selfHeal: z._default(z.boolean(), false),
  /** How long a hold of a controller that fell silent stays in force, in seconds. */
  controllerGrace: z._default(z.int().check(z.minimum(0)), 86_400),
  stateDir: z._default(absolutePath, '/var/lib/slipway/agent'),
});

export type AgentConfig = z.infer<typeof agentConfig>;
export type AgentRemote = AgentConfig['remotes'][number];
