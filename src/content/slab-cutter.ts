// Normalises, cuts and names streams, one after the other, in slabs of memory that are used again: a byte is copied once,
// and no buffer is made for a chunk. Fresh buffers cost more than cutting: the kernel clears them, V8 hunts for them.
import { ChunkPatcher, type PatchedChunk } from './chunk-patcher.ts';
import { findCut, MAX_CHUNK } from './chunker.ts';
import { LOOK_AHEAD, normaliseInPlace } from './normaliser.ts';

const SLAB_BYTES = 4 * 1024 * 1024;
/** So many bytes are normalised in one go. */
const STEP_BYTES = 256 * 1024;
const MOST_SPARE = 8;

/** A chunk of a stream; its bytes lie in a slab. */
export interface SlabChunk<T> {
  readonly stream: T;
  readonly chunk: PatchedChunk;
}

/** The chunks of one slab, in order, over the borders of streams. */
export interface SlabWindow<T> {
  readonly chunks: readonly SlabChunk<T>[];
  /** The bytes of its chunks are not needed any more. */
  release(): void;
}

export class SlabCutter<T> {
  readonly #spare: Buffer[] = [];
  #slab: Buffer = Buffer.allocUnsafeSlow(SLAB_BYTES);
  #chunks: SlabChunk<T>[] = [];
  #full: SlabWindow<T>[] = [];
  #stream: T | undefined;
  #patcher = new ChunkPatcher();
  /** Of the slab's beginning in the stream. */
  #offset = 0;
  /** In the slab: what is not cut, up to where it is normalised, and up to where there is something. */
  #start = 0;
  #settled = 0;
  #end = 0;

  /** Chunks that wait in the slab that is being filled. */
  get waiting(): number {
    return this.#chunks.length;
  }

  /** The chunks that follow belong to `stream`. The one before must have ended. */
  begin(stream: T): void {
    this.#stream = stream;
    this.#patcher = new ChunkPatcher();
    this.#offset = -this.#end;
    this.#start = this.#end;
    this.#settled = this.#end;
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#end === this.#slab.length) this.#turn();
      const taken = Math.min(bytes.length - at, this.#slab.length - this.#end);
      this.#slab.set(taken === bytes.length ? bytes : bytes.subarray(at, at + taken), this.#end);
      this.#end += taken;
      at += taken;
      if (this.#end - this.#settled >= STEP_BYTES || this.#end === this.#slab.length)
        this.#settle(LOOK_AHEAD);
    }
  }

  end(): void {
    this.#settle(0);
    while (this.#start < this.#end) this.#cut();
  }

  /** Ends the window that is being filled, whatever is in it. */
  flush(): void {
    if (this.#chunks.length > 0) this.#turn();
  }

  /** Windows that are complete. */
  take(): readonly SlabWindow<T>[] {
    const full = this.#full;
    this.#full = [];
    return full;
  }

  #settle(keep: number): void {
    const fresh = this.#slab.subarray(this.#settled, this.#end);
    const { end, taken } = normaliseInPlace(fresh, keep, this.#offset + this.#settled);
    this.#settled += end;
    this.#patcher.add(taken);
    while (this.#settled - this.#start >= MAX_CHUNK) this.#cut();
  }

  #cut(): void {
    const cut = findCut(this.#slab, this.#start, this.#settled);
    const chunk = this.#patcher.patch(this.#slab.subarray(this.#start, cut));
    this.#chunks.push({ stream: this.#stream as T, chunk });
    this.#start = cut;
  }

  /** Goes on in another slab; what is not cut moves there. */
  #turn(): void {
    const slab = this.#slab;
    const rest = slab.subarray(this.#start, this.#end);
    this.#slab = this.#spare.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
    this.#slab.set(rest);
    this.#full.push({
      chunks: this.#chunks,
      release: () => void (this.#spare.length < MOST_SPARE && this.#spare.push(slab)),
    });
    this.#chunks = [];
    this.#offset += this.#start;
    this.#settled -= this.#start;
    this.#end -= this.#start;
    this.#start = 0;
  }
}
