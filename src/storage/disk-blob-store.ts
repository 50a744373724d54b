// BlobStore on a local directory: temporary file, fdatasync, link into place, fsync of the directory.
// Layout: <directory>/blobs/<key> for what is committed, <directory>/tmp/<random> for what is being written.
import { randomBytes } from 'node:crypto';
import { constants, type Dirent } from 'node:fs';
import { link, mkdir, open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { SlipwayError, messageOf } from '../util/errors.ts';
import { checkBlobKey, type BlobEntry, type BlobStore, type BlobWriter } from './blob-store.ts';

const OPEN_FILES = 128; // read handles kept open; far below the usual limit of 1024 descriptors

/** Opens (and makes, mode 0700) the store below `directory`. */
export async function openDiskBlobStore(directory: string): Promise<BlobStore> {
  await mkdir(join(directory, 'blobs'), { recursive: true, mode: 0o700 });
  await mkdir(join(directory, 'tmp'), { recursive: true, mode: 0o700 });
  return new DiskBlobStore(directory);
}

/** Removes what writers left behind when their process died. Only for the one process that owns the directory. */
export async function removeUnfinished(directory: string): Promise<number> {
  const tmp = join(directory, 'tmp');
  const left = await readdir(tmp);
  for (const name of left) await rm(join(tmp, name), { force: true });
  return left.length;
}

class DiskBlobStore implements BlobStore {
  readonly #blobs: string;
  readonly #tmp: string;
  readonly #files = new LRUCache<string, Promise<SharedFile | undefined>>({
    max: OPEN_FILES,
    dispose: (file) => void file.then((opened) => opened?.retire()),
  });

  /** Directories whose own names are durable. */
  readonly #directories = new Map<string, Promise<void>>();

  constructor(directory: string) {
    this.#blobs = join(directory, 'blobs');
    this.#tmp = join(directory, 'tmp');
  }

  async create(key: string): Promise<BlobWriter> {
    const target = this.#path(key);
    await this.#ensureDirectory(dirname(target));
    const temporary = join(this.#tmp, randomBytes(12).toString('hex'));
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    return new DiskBlobWriter(await open(temporary, flags, 0o600).catch(refuseWhenFull), temporary, target);
  }

  async read(key: string, offset: number, length: number, into?: Buffer): Promise<Buffer | undefined> {
    const buffer = into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length);
    return await ifPresent(this.#open(key).then(async (file) => await file?.read(offset, buffer)));
  }

  async size(key: string): Promise<number | undefined> {
    return (await this.inspect(key))?.size;
  }

  async inspect(key: string): Promise<{ readonly size: number; readonly mark: string } | undefined> {
    const found = await ifPresent(stat(this.#path(key)));
    if (found?.isFile() !== true) return undefined;
    return { size: found.size, mark: `${found.ino} ${found.size} ${found.ctimeMs}` };
  }

  async *list(prefix: string): AsyncIterable<BlobEntry> {
    const entries = (await ifPresent(readdir(this.#blobs, { recursive: true, withFileTypes: true }))) ?? [];
    for (const entry of entries) {
      const key = this.#keyOf(entry);
      if (!entry.isFile() || !key.startsWith(prefix)) continue;
      const found = await ifPresent(stat(this.#path(key)));
      if (found !== undefined) yield { key, size: found.size, modifiedAt: found.mtimeMs };
    }
  }

  async delete(key: string): Promise<void> {
    const path = this.#path(key);
    this.#files.delete(key);
    await rm(path, { force: true });
    await ifPresent(syncDirectory(dirname(path)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const files = [...this.#files.values()];
    this.#files.clear();
    for (const file of files) await (await file)?.closed();
  }

  /** A blob is durable only when the names of all directories above it are, also those that a killed process made. */
  async #ensureDirectory(path: string): Promise<void> {
    const known = this.#directories.get(path);
    if (known) return await known;
    const made = this.#makeDirectory(path);
    this.#directories.set(path, made);
    made.catch(() => this.#directories.delete(path));
    await made;
  }

  async #makeDirectory(path: string): Promise<void> {
    if (path.length > this.#blobs.length) await this.#ensureDirectory(dirname(path));
    await mkdir(path, { recursive: true, mode: 0o700 }).catch(refuseWhenFull);
    await syncDirectory(dirname(path));
  }

  #path(key: string): string {
    checkBlobKey(key);
    return join(this.#blobs, key);
  }

  #keyOf(entry: Dirent): string {
    return join(entry.parentPath, entry.name).slice(this.#blobs.length + 1);
  }

  #open(key: string): Promise<SharedFile | undefined> {
    const known = this.#files.get(key);
    if (known) return known;
    const opening = ifPresent(open(this.#path(key), 'r')).then((handle) => {
      if (handle === undefined) this.#files.delete(key);
      return handle === undefined ? undefined : new SharedFile(handle);
    });
    opening.catch(() => this.#files.delete(key));
    this.#files.set(key, opening);
    return opening;
  }
}

/** A read handle that several readers share; closed when retired and no reader is left. */
class SharedFile {
  readonly #handle: FileHandle;
  #readers = 0;
  #retired = false;
  #closing: Promise<void> | undefined;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Fills the buffer; `undefined` when the file ends before. */
  async read(offset: number, buffer: Buffer): Promise<Buffer | undefined> {
    this.#readers++;
    try {
      let filled = 0;
      while (filled < buffer.length) {
        const { bytesRead } = await this.#handle.read(
          buffer,
          filled,
          buffer.length - filled,
          offset + filled,
        );
        if (bytesRead === 0) return undefined;
        filled += bytesRead;
      }
      return buffer;
    } finally {
      this.#readers--;
      this.#closeWhenIdle();
    }
  }

  retire(): void {
    this.#retired = true;
    this.#closeWhenIdle();
  }

  async closed(): Promise<void> {
    this.retire();
    await this.#closing;
  }

  #closeWhenIdle(): void {
    if (this.#retired && this.#readers === 0) this.#closing ??= this.#handle.close();
  }
}

class DiskBlobWriter implements BlobWriter {
  readonly #handle: FileHandle;
  readonly #temporary: string;
  readonly #target: string;
  #open = true;

  constructor(handle: FileHandle, temporary: string, target: string) {
    this.#handle = handle;
    this.#temporary = temporary;
    this.#target = target;
  }

  async write(bytes: Uint8Array): Promise<void> {
    let written = 0;
    while (written < bytes.length) {
      const { bytesWritten } = await this.#handle
        .write(bytes, written, bytes.length - written)
        .catch(refuseWhenFull);
      written += bytesWritten;
    }
  }

  async commit(): Promise<void> {
    await this.#handle.datasync().catch(refuseWhenFull);
    // link(2) rather than rename(2): it refuses to replace, which is what put-if-absent means.
    await link(this.#temporary, this.#target).catch((error: unknown) => {
      if (!hasCode(error, 'EEXIST')) return refuseWhenFull(error);
      throw new SlipwayError('conflict', `The blob ${this.#target} exists already.`);
    });
    await syncDirectory(dirname(this.#target));
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#handle.close();
    await rm(this.#temporary, { force: true });
  }
}

async function syncDirectory(path: string): Promise<void> {
  await using handle = await open(path, 'r');
  await handle.sync();
}

/** Told to whoever uploads: it is not their fault, and it passes. */
function refuseWhenFull(error: unknown): never {
  const full = hasCode(error, 'ENOSPC') || hasCode(error, 'EDQUOT');
  if (!full) throw error;
  throw new SlipwayError('unavailable', "The disk of the cache's server is full: nothing was stored.", {
    next: 'Make room there (slipway cache gc, or a larger disk), then push again.',
    cause: error,
  });
}

async function ifPresent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw new SlipwayError('unavailable', `The disk store failed: ${messageOf(error)}`, { cause: error });
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
