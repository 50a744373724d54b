// Pushes paths over Nix's own HTTP protocol, to caches that know no other: whole NARs, references before what refers to them.
import type { PathInfo } from '../effects/path-info.ts';
import { formatHashBytes } from '../nix/hash.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import { storePathHash, type StorePath } from '../nix/store-path.ts';
import { Semaphore } from '../util/concurrency.ts';
import type { CacheEndpoint } from './cache-endpoint.ts';
import { compressNar } from './compress-nar.ts';
import type { PushTally } from './push-tally.ts';

export interface NarPushOptions {
  readonly endpoint: CacheEndpoint;
  readonly tally: PushTally;
  /** In front of every store path on disk. */
  readonly root: string;
  /** Uploads at a time. */
  readonly jobs: number;
  readonly signal?: AbortSignal | undefined;
}

export class NarPush {
  readonly #options: NarPushOptions;
  readonly #missing: ReadonlyMap<StorePath, PathInfo>;
  readonly #begun = new Map<StorePath, Promise<void>>();
  readonly #slots: Semaphore;
  readonly #failure = new AbortController();
  readonly #signal: AbortSignal;

  constructor(options: NarPushOptions, missing: readonly PathInfo[]) {
    this.#options = options;
    this.#missing = new Map(missing.map((info) => [info.path, info]));
    this.#slots = new Semaphore(options.jobs);
    const own = this.#failure.signal;
    this.#signal = options.signal ? AbortSignal.any([options.signal, own]) : own;
  }

  async run(): Promise<void> {
    const uploads = [...this.#missing.values()].map((info) => this.#begin(info));
    try {
      await Promise.all(uploads);
    } catch (error) {
      this.#failure.abort();
      await Promise.allSettled(uploads);
      throw error;
    }
  }

  /** Uploads a path once, after its references: nothing in the cache ever refers to what is not there. */
  #begin(info: PathInfo): Promise<void> {
    const known = this.#begun.get(info.path);
    if (known) return known;
    const upload = this.#afterReferences(info);
    this.#begun.set(info.path, upload);
    return upload;
  }

  async #afterReferences(info: PathInfo): Promise<void> {
    const references = info.references.filter((reference) => reference !== info.path);
    await Promise.all(
      references.map(async (reference) => {
        const needed = this.#missing.get(reference);
        if (needed) await this.#begin(needed);
      }),
    );
    await this.#slots.run(() => this.#upload(info));
  }

  async #upload(info: PathInfo): Promise<void> {
    this.#signal.throwIfAborted();
    const { endpoint, tally, root } = this.#options;
    await using nar = await compressNar(info, `${root}${info.path}`, this.#signal);
    tally.readBytes += info.narSize;
    const url = `nar/${formatHashBytes(nar.fileHash.bytes, 'nix32')}.nar.zst`;
    const body = { type: 'application/x-nix-nar', length: nar.fileSize, open: () => nar.open() };
    await endpoint.put(url, body, this.#signal);
    const text = Buffer.from(
      formatNarInfo({
        ...info,
        storePath: info.path,
        url,
        compression: 'zstd',
        fileHash: nar.fileHash,
        fileSize: nar.fileSize,
      }),
    );
    const narInfo = { type: 'text/x-nix-narinfo', length: text.length, open: () => text };
    await endpoint.put(narInfoFile(info.path), narInfo, this.#signal);
    tally.sentBytes += nar.fileSize;
    tally.pushed(info.path);
  }
}

export function narInfoFile(path: StorePath): string {
  return `${storePathHash(path)}.narinfo`;
}
