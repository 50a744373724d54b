// Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016) with normalised chunk sizes and a gear table of our own.
// Equal bytes give equal cuts, and an edit moves only the cuts beside it. The cuts decide what is shared between NARs:
// the table and the sizes never change under one CHUNKER_VERSION.
import { createHash } from 'node:crypto';

/** Recorded in every recipe. 16 KiB least, 64 KiB target, 256 KiB most; version 1 cut twice as large. docs/FORMATS.md. */
export const CHUNKER_VERSION = 2;

export const MIN_CHUNK = 16 * 1024;
export const TARGET_CHUNK = 64 * 1024;
export const MAX_CHUNK = 256 * 1024;

// Normalisation level 2: below the target 18 bits must be zero, above it 14 (target = 2^16). The bits are the highest,
// because with a left-shifting hash these depend on the most bytes. Here: how far to shift them down.
const STRICT = 32 - 18;
const LOOSE = 32 - 14;
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
  const strict = scan(bytes, { from: first, to: target, hash: 0, shift: STRICT });
  if (strict !== undefined || target === last) return strict ?? last;
  return scan(bytes, { from: target, to: last, hash: hashUpTo(bytes, target), shift: LOOSE }) ?? last;
}

interface Scan {
  readonly from: number;
  readonly to: number;
  /** Of the bytes before `from`. */
  readonly hash: number;
  readonly shift: number;
}

/** Three times as fast as a plain loop: V8 is told that all numbers are small integers, and four bytes are a round. */
function scan(bytes: Uint8Array, { from, to, hash: seed, shift }: Scan): number | undefined {
  const gear = GEAR;
  const rounds = (to - 3) | 0;
  let at = from | 0;
  let hash = seed | 0;
  for (; at < rounds; at = (at + 4) | 0) {
    hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0;
    if (hash >>> shift === 0) return at + 1;
    hash = ((hash << 1) + (gear[bytes[at + 1] as number] as number)) | 0;
    if (hash >>> shift === 0) return at + 2;
    hash = ((hash << 1) + (gear[bytes[at + 2] as number] as number)) | 0;
    if (hash >>> shift === 0) return at + 3;
    hash = ((hash << 1) + (gear[bytes[at + 3] as number] as number)) | 0;
    if (hash >>> shift === 0) return at + 4;
  }
  for (; at < to; at = (at + 1) | 0) {
    hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0;
    if (hash >>> shift === 0) return at + 1;
  }
  return undefined;
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
