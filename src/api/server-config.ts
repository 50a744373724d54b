// The server's configuration: one TOML file, rendered by the NixOS module (services.slipway.server.settings), and
// what the flags of `slipway up` stand for. Every secret value is a reference, never the value itself.
import * as z from 'zod/mini';
import { atticKeys, oidcProvider } from './identity-config.ts';
import { secretReference } from './secret-reference.ts';
import { localStoreConfig, upstreamList } from './source-config.ts';
import { storageConfig } from './storage-config.ts';

const absolutePath = z.string().check(z.regex(/^\/[^\0\n]*$/, 'not an absolute path'));
const branchName = z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/, 'not a branch name'));

/** A name in URLs: /hooks/github/NAME. */
const slug = z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,49}$/, 'not a name (a-z, 0-9 and -)'));

export const repositoryConfig = z.strictObject({
  name: slug,
  /** A path, or any URL git understands, without credentials in it. */
  url: z
    .string()
    .check(
      z.regex(/^[^\s-][^\s]*$/, 'not a git URL'),
      z.regex(/^(?!\w+:\/\/[^/]*:[^/]*@)/, 'holds a password: use "credentials"'),
    ),
  branch: z._default(branchName, 'main'),
  releaseBranch: z._default(branchName, 'release'),
  /** Seconds between two looks at the branch; 0: only webhooks and people start runs. */
  poll: z._default(z.int().check(z.minimum(0), z.maximum(86_400)), 60),
  /** What signs webhook deliveries; several while a secret is rotated. */
  webhookSecret: z._default(z.union([secretReference, z.array(secretReference)]), []),
  /** File with a token that may read and push over https: the pipeline reads it anew for each connection. */
  credentials: z.optional(
    secretReference.check(z.regex(/^(file|credential):/, 'git needs a file: or credential: reference')),
  ),
  /** Private key file for ssh URLs. */
  sshKey: z.optional(absolutePath),
});

const seconds = z.int().check(z.minimum(0), z.maximum(3_153_600_000));

/** When garbage is collected, and what stays; times in seconds. */
const garbageConfig = z.strictObject({
  /** Between two collections; 0: only by hand (`slipway cache gc`). */
  every: z._default(seconds, 86_400),
  /** How long caches without a retention of their own keep a path after its last use; 0: for ever. */
  keep: z._default(seconds, 0),
  /** How long a path is still served once nothing keeps it. */
  grace: z._default(seconds.check(z.minimum(300)), 259_200),
  /** Newest releases whose systems are kept, for each host. */
  releases: z._default(z.int().check(z.minimum(1), z.maximum(100)), 5),
  /** Earlier systems that are kept, for each host that reports. */
  generations: z._default(z.int().check(z.minimum(0), z.maximum(100)), 3),
});

const uploadPace = z.strictObject({
  /** Seconds without a byte. */
  patience: z._default(z.int().check(z.minimum(1), z.maximum(3_600)), 60),
  /** Bytes a second, on average over that time; 0: a byte now and then is enough. */
  slowest: z._default(z.int().check(z.minimum(0)), 1024),
});

/** A cache that is made when it is missing. The other settings are `slipway cache configure`'s. */
const cacheConfig = z.strictObject({
  name: z.string(),
  public: z._default(z.boolean(), false),
  /** Given, even empty: the cache has these and no others. */
  upstreams: z.optional(upstreamList),
  /** `true` is short for this machine's own; `false` takes it away. */
  localStore: z.optional(z.union([localStoreConfig, z.boolean()])),
  /** Most bytes of NARs that are kept of upstreams; the least recently used go. */
  pulledLimit: z.optional(z.int().check(z.minimum(0))),
});

/** Another cache that is to have all that one of ours has: for another region, or as a copy. */
const mirrorConfig = z.strictObject({
  cache: z.string(),
  /** URL of the other cache. */
  to: z
    .string()
    .check(z.regex(/^https?:\/\/[^\s?#@]+$/, 'not a URL like https://host/cache, without credentials')),
  /** Of the other cache; it must be allowed to write. */
  token: z.optional(secretReference),
  every: z._default(z.int().check(z.minimum(10), z.maximum(604_800)), 3_600),
});

export const serverConfig = z.strictObject({
  data: absolutePath,
  ...storageConfig.shape,
  /** `address:port`, `[v6]:port`, `:port` (every address) or `unix:/path`. */
  listen: z._default(z.array(z.string()).check(z.minLength(1)), ['127.0.0.1:7480']),
  /** How others reach this server, when that is not the first address of `listen`. */
  publicUrl: z.optional(
    z.string().check(z.regex(/^https?:\/\/[^\s"'\\@/]+$/, 'not a URL like https://host[:port]')),
  ),
  /** `local`: this machine sees the status page without a token, others with it. `token`: everybody needs it. */
  view: z._default(z.enum(['local', 'token', 'open']), 'local'),
  /** Runs of different repositories that go on at once. */
  parallelRuns: z._default(z.int().check(z.minimum(1), z.maximum(64)), 2),
  /** Longest time of a run, in seconds. */
  runTimeout: z._default(z.int().check(z.minimum(60), z.maximum(604_800)), 14_400),
  /** How fast packs are looked through for damage, in the background; 0: not at all. */
  scrubBytesPerSecond: z._default(z.int().check(z.minimum(0)), 1_048_576),
  /** Runs that are kept for each repository. */
  keepRuns: z._default(z.int().check(z.minimum(1), z.maximum(100_000)), 200),
  /** How slowly uploads may come before they are refused: they take turns, and one must not keep its turn for ever. */
  uploads: z._default(uploadPace, { patience: 60, slowest: 1024 }),
  caches: z._default(z.array(cacheConfig), [{ name: 'main', public: false }]),
  mirrors: z._default(z.array(mirrorConfig), []),
  gc: z._default(garbageConfig, { every: 86_400, keep: 0, grace: 259_200, releases: 5, generations: 3 }),
  /** Attic servers whose tokens are good here. */
  attic: z._default(atticKeys, { hs256: [], rs256: [] }),
  /** Forges whose jobs may come with their own token. */
  oidc: z
    ._default(z.array(oidcProvider), [])
    .check(
      z.refine(
        (all) => new Set(all.map((one) => one.name)).size === all.length,
        'two identity providers have the same name',
      ),
    ),
  repositories: z
    ._default(z.array(repositoryConfig), [])
    .check(
      z.refine(
        (all) => new Set(all.map((one) => one.name)).size === all.length,
        'two repositories have the same name',
      ),
    ),
});

export type ServerConfig = z.infer<typeof serverConfig>;
export type MirrorConfig = z.infer<typeof mirrorConfig>;
export type RepositoryConfig = z.infer<typeof repositoryConfig>;

/** References of the webhook secrets as a list, whatever the spelling. */
export function webhookSecrets(repository: RepositoryConfig): readonly string[] {
  return typeof repository.webhookSecret === 'string' ? [repository.webhookSecret] : repository.webhookSecret;
}
