// Which chunks share a frame: neighbours, as many as a frame may have.
import { MAX_CHUNK } from './chunker.ts';
import { MOST_PLACES_A_FRAME } from './patched-frame.ts';

/** What of a chunk counts against the limits of a frame. */
export interface ChunkMeasure {
  readonly bytes: number;
  readonly places: number;
}

/** Gathers chunks that may share a frame, in the order of the stream. */
export class FrameGroups<T> {
  readonly groups: T[][] = [];
  readonly #measure: (chunk: T) => ChunkMeasure;
  readonly #mostBytes: number;
  #bytes = 0;
  #places = 0;
  #open = false;

  /** `mostBytes`: that a frame may decode to. */
  constructor(measure: (chunk: T) => ChunkMeasure, mostBytes: number) {
    this.#measure = measure;
    this.#mostBytes = mostBytes;
  }

  /** The next chunk of the frame that is open, if it has room. */
  add(chunk: T): void {
    const size = this.#measure(chunk);
    // No cut was found in it, so it is zeros or the like: other contents will have it, too, and it is small alone.
    const repeats = size.bytes === MAX_CHUNK;
    if (repeats) this.part();
    this.#put(chunk, size);
    if (repeats) this.part();
  }

  #put(chunk: T, size: ChunkMeasure): void {
    const bytes = this.#bytes + size.bytes;
    const places = this.#places + size.places;
    const fits = this.#open && bytes <= this.#mostBytes && places <= MOST_PLACES_A_FRAME;
    if (fits) this.groups.at(-1)?.push(chunk);
    else this.groups.push([chunk]);
    this.#bytes = fits ? bytes : size.bytes;
    this.#places = fits ? places : size.places;
    this.#open = true;
  }

  /** What follows is no neighbour of what came: a reader of either would decode the other for nothing. */
  part(): void {
    this.#open = false;
  }
}
