// Group commit: uploads that go on at once share a pack, so that many small ones cost one fsync or one object together.
// Whoever ends first has the pack sealed; while that goes on, the others gather in the next one and end together.
import type { BlobStore } from '../../storage/blob-store.ts';
import { Semaphore } from '../../util/concurrency.ts';
import { SlipwayError } from '../../util/errors.ts';
import type { FrameContents, PackedFrame } from '../../content/pack-format.ts';
import { LARGEST_PACK, PackBlob, type PackSink, type SealedPack } from './pack-writer.ts';
import { LONGEST_UPLOAD_MS } from '../garbage/retired-packs.ts';

export class PackPool implements AsyncDisposable {
  readonly #blobs: BlobStore;
  /** Appends and the choice of the pack go one after another; sealing goes on beside them. */
  readonly #turn = new Semaphore(1);
  #current: SharedPack | undefined;
  #sealing: Promise<unknown> = Promise.resolve();

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  /** The sink of one upload. */
  open(): PackSink {
    return new PackShare(this);
  }

  /** Adds a frame to the pack that is open; returns that pack and where in it the frame is. */
  async append(
    frame: Buffer,
    contents: FrameContents,
  ): Promise<{ readonly pack: SharedPack; readonly packed: PackedFrame }> {
    return await this.#turn.run(async () => {
      if (this.#current !== undefined && !this.#current.hasRoom(frame.length)) this.#release(this.#current);
      const pack = (this.#current ??= new SharedPack(await PackBlob.create(this.#blobs)));
      try {
        return { pack, packed: await pack.append(frame, contents) };
      } catch (error) {
        this.#current = undefined;
        await pack.abandon(error);
        throw error;
      }
    });
  }

  /** Resolves when the pack is durable. */
  async seal(pack: SharedPack): Promise<Omit<SealedPack, 'frames'>> {
    // One seal at a time, so that those who come meanwhile gather in one pack instead of one each.
    if (this.#current === pack) {
      await this.#sealing;
      await this.#turn.run(async () => {
        if (this.#current === pack) this.#release(pack);
        return await Promise.resolve();
      });
    }
    return await pack.sealed();
  }

  /** What no upload has ended with goes. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn.run(async () => {
      await this.#current?.[Symbol.asyncDispose]();
      this.#current = undefined;
    });
    await this.#sealing;
  }

  #release(pack: SharedPack): void {
    this.#current = undefined;
    this.#sealing = pack.sealed().catch(() => undefined);
  }
}

/** A pack that several uploads write to. */
class SharedPack implements AsyncDisposable {
  readonly #blob: PackBlob;
  #sealing: Promise<Omit<SealedPack, 'frames'>> | undefined;
  #failure: unknown;

  constructor(blob: PackBlob) {
    this.#blob = blob;
  }

  hasRoom(length: number): boolean {
    return this.#blob.size + length <= LARGEST_PACK;
  }

  async append(frame: Buffer, contents: FrameContents): Promise<PackedFrame> {
    return await this.#blob.append(frame, contents);
  }

  /** Starts sealing at the first call. */
  async sealed(): Promise<Omit<SealedPack, 'frames'>> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#sealing ??= this.#blob.seal();
    return await this.#sealing;
  }

  /** Whoever has frames in it hears of the failure at its end. */
  async abandon(failure: unknown): Promise<void> {
    this.#failure = failure;
    await Promise.allSettled([this[Symbol.asyncDispose]()]); // the first failure is the one to tell
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blob[Symbol.asyncDispose]();
  }
}

/** What one upload has in the packs of the pool. Frames of an upload that is given up stay in them, unnamed, until repacking. */
class PackShare implements PackSink {
  readonly #pool: PackPool;
  readonly #packs = new Map<SharedPack, PackedFrame[]>();
  readonly #openedAt = performance.now();

  constructor(pool: PackPool) {
    this.#pool = pool;
  }

  async append(frame: Buffer, contents: FrameContents): Promise<void> {
    const { pack, packed } = await this.#pool.append(frame, contents);
    const frames = this.#packs.get(pack) ?? [];
    frames.push(packed);
    this.#packs.set(pack, frames);
  }

  async finish(): Promise<readonly SealedPack[]> {
    // Later than this, a pack of its that was removed meanwhile could not be told from one that is still there.
    if (performance.now() - this.#openedAt > LONGEST_UPLOAD_MS) throw tooLong();
    const packs = [...this.#packs].map(async ([pack, frames]) => ({
      ...(await this.#pool.seal(pack)),
      frames,
    }));
    return await Promise.all(packs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve(); // the pool's pack belongs to others as well
  }
}

function tooLong(): SlipwayError {
  return new SlipwayError('unavailable', 'The upload took longer than two days.', { next: 'Push it again.' });
}
