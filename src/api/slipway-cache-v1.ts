// Slipway's own upload protocol: what is JSON in it. Bundles are src/content/bundle-format.ts; both are written
// down in docs/FORMATS.md. Below `/_api/slipway/v1/caches/{cache}`.
import * as z from 'zod/mini';

const storeHash = z.string().check(z.regex(/^[0-9abcdfghijklmnpqrsvwxyz]{32}$/));

/** Version 2: a frame of a bundle may hold several chunks. */
export const UPLOAD_PROTOCOL = 2;

/** Most paths of one question. */
export const MOST_PATHS_A_QUESTION = 20_000;
/** Most chunks of one question: 32 bytes each. */
export const MOST_CHUNKS_A_QUESTION = 8_192;

/** POST missing-paths. */
export const missingPathsQuestion = z.object({
  paths: z.array(storeHash).check(z.maxLength(MOST_PATHS_A_QUESTION)),
});

export const missingPathsAnswer = z.object({ missing: z.array(storeHash) });

/** GET paths?after=<hash>: all that the cache holds, by hash. */
export const pathPage = z.object({
  paths: z.array(z.object({ hash: storeHash, narinfo: z.string() })),
  /** For the next question; absent on the last page. */
  next: z.optional(storeHash),
});

/** GET: what a client must know before it cuts anything. A client that does not know the versions uses Nix' protocol. */
export const uploadTerms = z.object({
  protocol: z.int(),
  chunker: z.int(),
  normaliser: z.int(),
  storeDir: z.string(),
  /** Most bytes of a bundle. */
  maxBundle: z.int(),
  /** Most bundles of one push, named by PUSH_HEADER, that may wait for their answers at once. Older servers: 1. */
  bundlesAtOnce: z.optional(z.int()),
});

/** Of POST bundles: 16 to 64 letters, digits, `_` or `-`, made up for each push. A bundle goes out when the one before is out. */
export const PUSH_HEADER = 'x-slipway-push';

const failure = z.object({
  code: z.string(),
  message: z.string(),
  next: z.optional(z.string()),
});

/** The answer to a bundle: everything in it that is not refused is durable. */
export const bundleAnswer = z.object({
  /** In the order of the bundle's path records. */
  paths: z.array(z.object({ storePath: z.string(), failure: z.optional(failure) })),
  /** NARs, by SHA-256 in hex, whose beginning is not known here: all chunks are to be named once more, from the first. */
  lost: z.array(z.string()),
});

/** Any other answer than 200. `absent`: the upload counted on a chunk that is not held for it. */
export const uploadRefusal = z.object({ error: failure, absent: z.optional(z.boolean()) });

export type UploadTerms = z.infer<typeof uploadTerms>;
export type BundleAnswer = z.infer<typeof bundleAnswer>;
export type UploadFailure = z.infer<typeof failure>;
