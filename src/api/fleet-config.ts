// The `slipway` output of a user's flake: which hosts there are and how they want to be treated.
// Pure data, read with `nix eval --json .#slipway`; every key has a default, an absent output is `{}`.
import * as z from 'zod/mini';
import { fleetHooks, hostHooks } from './deploy-hooks.ts';

/** A host name as Nix attribute and as DNS label; the strict set keeps names safe in paths, units and refs. */
export const hostName = z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'not a host name'));

/** Who reads a secret: a host, or a home-manager user of one (`anna@web1`). */
export const secretReader = z
  .string()
  .check(z.regex(/^([a-z_][a-z0-9_-]{0,31}@)?[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'not a host or user@host'));

const httpCheck = z.strictObject({
  url: z.string().check(z.regex(/^https?:\/\/[^\s"'\\]+$/, 'not an http(s) URL')),
  /** Status that counts as healthy. */
  status: z._default(z.int().check(z.minimum(100), z.maximum(599)), 200),
});

const tcpCheck = z.strictObject({
  host: z._default(z.string().check(z.regex(/^[A-Za-z0-9.:_-]+$/)), '127.0.0.1'),
  port: z.int().check(z.minimum(1), z.maximum(65535)),
});

export const healthConfig = z.strictObject({
  /** systemd units that must be active. */
  units: z._default(z.array(z.string().check(z.regex(/^[A-Za-z0-9:_.@\\-]+$/, 'not a unit name'))), []),
  http: z._default(z.array(httpCheck), []),
  tcp: z._default(z.array(tcpCheck), []),
  /** Shell commands run as root on the host; exit 0 is healthy. */
  commands: z._default(z.array(z.string().check(z.regex(/^[^\n\r]+$/, 'one line'))), []),
  /** Seconds until the checks must hold. */
  timeout: z._default(z.int().check(z.minimum(1), z.maximum(3600)), 120),
  /** Seconds for which the checks must hold without a break. */
  stable: z._default(z.int().check(z.minimum(0), z.maximum(3600)), 5),
});

/**
 * What to do with a system that needs a reboot (kernel, initrd, switch inhibitors): try it with one boot; switch live and
 * leave its kernel to the next boot, whenever that comes; or refuse it.
 */
export const rebootPolicy = z.enum(['when-needed', 'later', 'never']);

export const hostConfig = z.strictObject({
  mode: z._default(z.enum(['push', 'pull', 'manual']), 'manual'),
  /** Address for push deploys and inbound probes; default: the host's name. */
  targetHost: z.optional(z.string().check(z.regex(/^[A-Za-z0-9.:_-]+$/, 'not an address'))),
  targetUser: z._default(z.string().check(z.regex(/^[a-z_][a-z0-9_-]*$/)), 'root'),
  targetPort: z._default(z.int().check(z.minimum(1), z.maximum(65535)), 22),
  sshOptions: z._default(z.array(z.string()), []),
  tags: z._default(z.array(z.string()), []),
  wave: z._default(z.int().check(z.minimum(0)), 1),
  /** A required host that cannot be evaluated or built fails the release; another one is left behind. */
  required: z._default(z.boolean(), false),
  /** The host's ssh public keys: recipients of its secrets, and what its sshd must show. */
  publicKey: z.optional(z.union([z.string(), z.array(z.string())])),
  /** Public keys of home-manager users who have secrets of their own: what agenix' `age.identityPaths` of the user opens. */
  users: z._default(
    z.record(
      z.string().check(z.regex(/^[a-z_][a-z0-9_-]{0,31}$/)),
      z.union([z.string(), z.array(z.string())]),
    ),
    {},
  ),
  health: z.prefault(healthConfig, {}),
  hooks: z.prefault(hostHooks, {}),
  /** For a system that needs a reboot; absent: `when-needed` where somebody deploys, `later` where the host pulls. */
  reboot: z.optional(rebootPolicy),
});

export const fleetConfig = z.strictObject({
  hosts: z._default(z.record(hostName, hostConfig), {}),
  secrets: z.prefault(
    z.strictObject({
      /** Public keys of who may decrypt the source branch. */
      editors: z._default(z.array(z.string()), []),
      /** Public half of the re-key identity (two while it is rotated): what is put is encrypted to it as well. */
      rekeyer: z.optional(z.union([z.string(), z.array(z.string())])),
      /** `host/secret` (with `*`) whose files belong to other inputs of the flake: they are left as they are. */
      unmanaged: z._default(z.array(z.string()), []),
    }),
    {},
  ),
  release: z.prefault(
    z.strictObject({
      branch: z._default(z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/)), 'release'),
      /** `detached`: the source is no parent of a release, so a clone of the branch holds no editor's ciphertext. */
      history: z._default(z.enum(['merged', 'detached']), 'merged'),
    }),
    {},
  ),
  deploy: z.prefault(
    z.strictObject({
      /** On the controller once a rollout; with `on = "host"` on each host. */
      hooks: z.prefault(fleetHooks, {}),
    }),
    {},
  ),
  /** Where closures go: `slipway:<cache>` for this server's caches, else any Nix store URL. */
  caches: z._default(z.array(z.string()), []),
});

export type HealthConfig = z.infer<typeof healthConfig>;
export type RebootPolicy = z.infer<typeof rebootPolicy>;
export type HostConfig = z.infer<typeof hostConfig>;
export type FleetConfig = z.infer<typeof fleetConfig>;

/** The host's public keys as a list, whatever the spelling. */
export function publicKeys(host: HostConfig): readonly string[] {
  return listOf(host.publicKey);
}

/** A home-manager user's public keys on this host. */
export function userKeys(host: HostConfig, user: string): readonly string[] {
  return listOf(Object.hasOwn(host.users, user) ? host.users[user] : undefined);
}

/** The re-keyers' public keys as a list, whatever the spelling. */
export function rekeyerKeys(config: FleetConfig): readonly string[] {
  return listOf(config.secrets.rekeyer);
}

function listOf(keys: string | readonly string[] | undefined): readonly string[] {
  if (keys === undefined) return [];
  return typeof keys === 'string' ? [keys] : keys;
}
