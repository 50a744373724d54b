// Writes frames into packs of up to 64 MiB and seals each with its index. A pack is visible only once it is durable.
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { BlobStore, BlobWriter } from '../storage/blob-store.ts';
import { PACK_HEADER, formatPackIndex, type PackEntry } from './pack-format.ts';

const LARGEST_PACK = 64 * 1024 * 1024;

export interface SealedPack {
  readonly blobKey: string;
  readonly size: number;
  readonly entries: readonly PackEntry[];
}

/** Every pack of Slipway has a key with this prefix. */
export const PACK_PREFIX = 'pack/';

export class PackWriter implements AsyncDisposable {
  readonly #blobs: BlobStore;
  readonly #sealed: SealedPack[] = [];
  #blob: BlobWriter | undefined;
  #key = '';
  #size = 0;
  #entries: PackEntry[] = [];

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  async append(frame: Buffer, facts: Pick<PackEntry, 'kind' | 'hash' | 'rawLength'>): Promise<void> {
    if (this.#size + frame.length > LARGEST_PACK) await this.#seal();
    const blob = this.#blob ?? (await this.#start());
    await blob.write(frame);
    const offset = this.#size;
    this.#entries.push({ ...facts, offset, frameLength: frame.length, frameCrc: crc32(frame) });
    this.#size += frame.length;
  }

  /** Seals what is open; all packs returned are durable. */
  async finish(): Promise<readonly SealedPack[]> {
    await this.#seal();
    return this.#sealed;
  }

  /** Packs that were sealed stay behind as garbage until nothing in the database names them. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blob?.[Symbol.asyncDispose]();
  }

  async #start(): Promise<BlobWriter> {
    this.#key = newPackKey();
    this.#blob = await this.#blobs.create(this.#key);
    await this.#blob.write(PACK_HEADER);
    this.#size = PACK_HEADER.length;
    this.#entries = [];
    return this.#blob;
  }

  async #seal(): Promise<void> {
    const blob = this.#blob;
    if (blob === undefined) return;
    const index = formatPackIndex(this.#entries);
    await blob.write(index);
    await blob.commit();
    this.#blob = undefined;
    this.#sealed.push({ blobKey: this.#key, size: this.#size + index.length, entries: this.#entries });
    this.#size = 0;
  }
}

/** Random, and spread over 256 folders so that no directory grows without bound. */
function newPackKey(): string {
  const name = randomBytes(16).toString('hex');
  return `${PACK_PREFIX}${name.slice(0, 2)}/${name}`;
}
