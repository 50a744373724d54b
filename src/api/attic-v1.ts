// The Attic API, version 1, as its client sends it and its server answers (attic/src/api/v1/*.rs, server/src/api/v1/*.rs).
// Keys that are not known are ignored, as serde does. `null` and an absent key mean the same.
import * as z from 'zod/mini';

const STORE_HASH = /^[0-9abcdfghijklmnpqrsvwxyz]{32}$/;
const oneLine = (longest: number) => z.string().check(z.maxLength(longest), z.regex(/^[^\0\r\n]*$/));
const optional = <T extends z.ZodMiniType>(schema: T) => z.optional(z.nullable(schema));

export const atticCacheName = z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9_+-]{0,49}$/));
const storeHash = z.string().check(z.regex(STORE_HASH));
const priority = z.int().check(z.minimum(-2_147_483_648), z.maximum(2_147_483_647));
const keyNames = z.array(oneLine(128)).check(z.maxLength(100));
const keypair = z.union([z.literal('Generate'), z.object({ Keypair: oneLine(400) })]);

export const atticRetention = z.union([
  z.literal('Global'),
  z.object({ Period: z.int().check(z.minimum(0), z.maximum(2_147_483_647)) }),
]);

export const atticCreateCache = z.object({
  keypair,
  is_public: z.boolean(),
  store_dir: oneLine(1000),
  priority,
  upstream_cache_key_names: keyNames,
});

export const atticConfigureCache = z.object({
  keypair: optional(keypair),
  is_public: optional(z.boolean()),
  store_dir: optional(oneLine(1000)),
  priority: optional(priority),
  upstream_cache_key_names: optional(keyNames),
  retention_period: optional(atticRetention),
});

export const atticMissingPaths = z.object({ cache: atticCacheName, store_path_hashes: z.array(storeHash) });

export const atticNarInfo = z.object({
  cache: atticCacheName,
  store_path_hash: storeHash,
  /** The whole path. */
  store_path: oneLine(1000),
  /** Base names. */
  references: z.array(oneLine(300)),
  system: optional(oneLine(100)),
  deriver: optional(oneLine(300)),
  sigs: z.array(oneLine(500)).check(z.maxLength(1000)),
  ca: optional(oneLine(300)),
  /** `sha256:` and 64 hexadecimal digits. */
  nar_hash: oneLine(200),
  nar_size: z.int().check(z.minimum(0), z.maximum(Number.MAX_SAFE_INTEGER)),
});

export type AtticConfigureCache = z.infer<typeof atticConfigureCache>;
export type AtticNarInfo = z.infer<typeof atticNarInfo>;
export type AtticRetention = z.infer<typeof atticRetention>;

/** Answer of GET cache-config and attic-cache-info, in the order in which Attic writes the keys. */
export interface AtticCacheConfig {
  readonly substituter_endpoint: string;
  /** Ends with `/`: clients join paths to it. */
  readonly api_endpoint: string;
  readonly public_key: string;
  readonly is_public: boolean;
  readonly store_dir: string;
  readonly priority: number;
  readonly upstream_cache_key_names: readonly string[];
  readonly retention_period: AtticRetention;
}

export interface AtticUploadResult {
  readonly kind: 'Uploaded' | 'Deduplicated';
  readonly file_size?: number;
  readonly frac_deduplicated: number | null;
}

export interface AtticError {
  readonly code: number;
  readonly error: string;
  readonly message: string;
}
