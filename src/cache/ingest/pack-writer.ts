// Writes frames into packs of up to 64 MiB and seals each with its index. A pack is visible only once it is durable.
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { BlobStore, BlobWriter } from '../../storage/blob-store.ts';
import {
  PACK_HEADER,
  formatPackIndex,
  type FrameContents,
  type PackedFrame,
} from '../../content/pack-format.ts';

export const LARGEST_PACK = 64 * 1024 * 1024;

export interface SealedPack {
  readonly blobKey: string;
  readonly size: number;
  /** Those of whoever wrote them; a shared pack holds more. */
  readonly frames: readonly PackedFrame[];
}

/** Every pack of Slipway has a key with this prefix. */
export const PACK_PREFIX = 'pack/';

/** Where an upload puts its frames. */
export interface PackSink extends AsyncDisposable {
  append(frame: Buffer, contents: FrameContents): Promise<void>;

  /** Seals what is open; all packs returned are durable. */
  finish(): Promise<readonly SealedPack[]>;
}

/** Packs of its own for one writer. */
export class PackWriter implements PackSink {
  readonly #blobs: BlobStore;
  readonly #sealed: SealedPack[] = [];
  #open: PackBlob | undefined;
  #frames: PackedFrame[] = [];

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  async append(frame: Buffer, contents: FrameContents): Promise<void> {
    if (this.#open !== undefined && this.#open.size + frame.length > LARGEST_PACK)
      await this.#seal(this.#open);
    this.#open ??= await PackBlob.create(this.#blobs);
    this.#frames.push(await this.#open.append(frame, contents));
  }

  async finish(): Promise<readonly SealedPack[]> {
    if (this.#open !== undefined) await this.#seal(this.#open);
    return this.#sealed;
  }

  /** Packs that were sealed stay behind as garbage until nothing in the database names them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open?.[Symbol.asyncDispose]();
  }

  async #seal(pack: PackBlob): Promise<void> {
    const sealed = await pack.seal();
    this.#sealed.push({ ...sealed, frames: this.#frames });
    this.#open = undefined;
    this.#frames = [];
  }
}

/** One pack on its way into the blob store. Calls must not overlap. */
export class PackBlob implements AsyncDisposable {
  readonly #key: string;
  readonly #blob: BlobWriter;
  readonly #frames: PackedFrame[] = [];
  #size = PACK_HEADER.length;

  constructor(key: string, blob: BlobWriter) {
    this.#key = key;
    this.#blob = blob;
  }

  static async create(blobs: BlobStore): Promise<PackBlob> {
    const key = newPackKey();
    const blob = await blobs.create(key);
    try {
      await blob.write(PACK_HEADER);
    } catch (error) {
      await Promise.allSettled([blob[Symbol.asyncDispose]()]); // the first failure is the one to tell
      throw error;
    }
    return new PackBlob(key, blob);
  }

  /** Bytes so far, without the index. */
  get size(): number {
    return this.#size;
  }

  async append(frame: Buffer, contents: FrameContents): Promise<PackedFrame> {
    const { kind, parts, settled } = contents;
    const place = { offset: this.#size, length: frame.length, crc: crc32(frame) };
    const packed = { kind, parts, ...(settled === true && { settled }), ...place };
    await this.#blob.write(frame);
    this.#frames.push(packed);
    this.#size += frame.length;
    return packed;
  }

  /** Durable when this resolves. A failure leaves nothing. */
  async seal(): Promise<Omit<SealedPack, 'frames'>> {
    const index = formatPackIndex(this.#frames);
    try {
      await this.#blob.write(index);
      await this.#blob.commit();
    } catch (error) {
      await Promise.allSettled([this.#blob[Symbol.asyncDispose]()]); // the first failure is the one to tell
      throw error;
    }
    return { blobKey: this.#key, size: this.#size + index.length };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blob[Symbol.asyncDispose]();
  }
}

/** Random, and spread over 256 folders so that no directory grows without bound. */
function newPackKey(): string {
  const name = randomBytes(16).toString('hex');
  return `${PACK_PREFIX}${name.slice(0, 2)}/${name}`;
}
