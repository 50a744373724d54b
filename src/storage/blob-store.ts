// The port for bytes at rest. Adapters: disk-blob-store.ts, s3-blob-store.ts.
// Blobs are immutable: a key is written once and only ever deleted. test/contract/blob-store.contract.ts is the law.
import { SlipwayError } from '../util/errors.ts';

const KEY = /^[a-z0-9][a-z0-9._-]*(\/[a-z0-9][a-z0-9._-]*)*$/;

/** Where blobs live. Every adapter passes the same contract suite. */
export interface BlobStore extends AsyncDisposable {
  /**
   * Starts a blob. Nothing is visible under `key` before `commit()` resolves.
   * Keys are `/`-separated segments of `[a-z0-9][a-z0-9._-]*`; anything else is `invalid`.
   */
  create(key: string): Promise<BlobWriter>;

  /**
   * The `length` bytes at `offset`, exactly; `undefined` when the blob is missing or ends before. Never fewer bytes.
   * The buffer is the caller's own: readers write into it. An adapter may use `into`, of at least `length` bytes, for it.
   * Callers bound `length`; an adapter may hold that much in memory.
   */
  read(key: string, offset: number, length: number, into?: Buffer): Promise<Buffer | undefined>;

  /** Size in bytes; `undefined` when there is no such blob. */
  size(key: string): Promise<number | undefined>;

  /**
   * Size, and a mark that is another one once anybody has altered the blob behind our back. Only adapters that can tell
   * as cheaply as `size()` have this.
   */
  inspect?(key: string): Promise<{ readonly size: number; readonly mark: string } | undefined>;

  /** All committed blobs whose key starts with `prefix`, in no particular order. May miss blobs committed meanwhile. */
  list(prefix: string): AsyncIterable<BlobEntry>;

  /** Removes the blob. May be called twice; a missing blob is no error. */
  delete(key: string): Promise<void>;
}

export interface BlobEntry {
  readonly key: string;
  readonly size: number;
  /** When it was committed, in milliseconds since 1970 by the store's clock. */
  readonly modifiedAt: number;
}

/** One blob on its way in. Disposing it without a commit leaves nothing that is ever visible. */
export interface BlobWriter extends AsyncDisposable {
  /** Appends; calls must not overlap. The bytes may be reused by the caller once the promise resolves. */
  write(bytes: Uint8Array): Promise<void>;

  /**
   * Put-if-absent, durable: once this resolves, the blob survives a power cut. Rejects with `conflict` when the key
   * exists already (the existing blob is untouched).
   */
  commit(): Promise<void>;
}

/** Throws `invalid` for what is not a key. */
export function checkBlobKey(key: string): void {
  if (!KEY.test(key)) throw new SlipwayError('invalid', `"${key}" is not a blob key.`);
}
