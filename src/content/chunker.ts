// Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016) with normalised chunk sizes and a gear table of our own.
// Equal bytes give equal cuts, and an edit moves only the cuts beside it. The cuts decide what is shared between NARs:
// the table and the sizes never change under one CHUNKER_VERSION.
import { createHash } from 'node:crypto';
import { GearScan } from './gear-scan.ts';

/** Recorded in every recipe. 16 KiB least, 64 KiB target, 256 KiB most; version 1 cut twice as large. docs/FORMATS.md. */
export const CHUNKER_VERSION = 2;

export const MIN_CHUNK = 16 * 1024;
export const TARGET_CHUNK = 64 * 1024;
export const MAX_CHUNK = 256 * 1024;

// Normalisation level 2: below the target 18 bits must be zero, above it 14 (target = 2^16). The bits are the highest,
// because with a left-shifting hash these depend on the most bytes. Here: what a hash with such bits is less than.
const STRICT = 2 ** (32 - 18);
const LOOSE = 2 ** (32 - 14);
/** Most loose cuts are found within the first. */
const LOOSE_STEP = 32 * 1024;
/** A byte is shifted out of the hash after so many more. */
const HASH_BYTES = 32;

const WINDOW = 2 * MAX_CHUNK;

/** Cuts a stream of bytes into chunks that concatenate to it. Every chunk returned is a buffer of its own. */
export class Chunker {
  readonly #window = Buffer.allocUnsafeSlow(WINDOW);
  #start = 0;
  #end = 0;

  /** Takes `bytes` in and calls `emit` for each chunk that is complete. */
  push(bytes: Uint8Array, emit: (chunk: Buffer) => void): void {
    let taken = 0;
    while (taken < bytes.length) {
      const room = Math.min(WINDOW - this.#end, bytes.length - taken);
      this.#window.set(bytes.subarray(taken, taken + room), this.#end);
      this.#end += room;
      taken += room;
      while (this.#end - this.#start >= MAX_CHUNK) emit(this.#cut());
      this.#compact();
    }
  }

  /** Emits what is left. */
  end(emit: (chunk: Buffer) => void): void {
    while (this.#end > this.#start) emit(this.#cut());
  }

  #cut(): Buffer {
    const cut = findCut(this.#window, this.#start, this.#end);
    const chunk = Buffer.from(this.#window.subarray(this.#start, cut));
    this.#start = cut;
    return chunk;
  }

  #compact(): void {
    if (this.#start === 0 || this.#end < WINDOW) return;
    this.#window.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
  }
}

/** Where the chunk that starts at `start` ends, given the bytes up to `end`. Looks at most MAX_CHUNK bytes ahead. */
export function findCut(bytes: Uint8Array, start: number, end: number): number {
  const last = Math.min(end, start + MAX_CHUNK);
  const target = Math.min(last, start + TARGET_CHUNK);
  const first = Math.min(last, start + MIN_CHUNK);
  const strict = SCAN.find(bytes.subarray(first, target), 0, STRICT);
  if (strict !== -1) return first + strict;
  for (let from = target; from < last; from += LOOSE_STEP) {
    const step = bytes.subarray(from, Math.min(last, from + LOOSE_STEP));
    const loose = SCAN.find(step, hashUpTo(bytes, from), LOOSE);
    if (loose !== -1) return from + loose;
  }
  return last;
}

function hashUpTo(bytes: Uint8Array, end: number): number {
  let hash = 0;
  for (let at = end - HASH_BYTES; at < end; at++)
    hash = ((hash << 1) + (GEAR[bytes[at] as number] as number)) | 0;
  return hash;
}

/** Entry `n` is the first 4 bytes, little-endian, of SHA-256("slipway gear 1 <n>"): anyone can recompute it. */
function makeGear(): Int32Array {
  return Int32Array.from({ length: 256 }, (_, n) =>
    createHash('sha256').update(`slipway gear ${CHUNKER_VERSION} ${n}`).digest().readInt32LE(0),
  );
}

const GEAR = makeGear();
const SCAN = new GearScan(GEAR, TARGET_CHUNK);
