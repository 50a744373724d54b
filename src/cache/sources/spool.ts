// A NAR on its way: written once by whoever fetches it, read by any number of clients at their own pace, from any byte.
// It lies in a file without a name, so that a crash leaves nothing behind; a slow client holds up nobody. The end of the
// NAR is held back until its hash is known to be right: no client ever gets a whole NAR that is a wrong one.
import { randomBytes } from 'node:crypto';
import { mkdir, open, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

/** What is held back; a smaller NAR is given only as a whole, so that a bad one is absent instead of broken. */
export const HELD_BACK_BYTES = 4 * 1024 * 1024;
const PIECE_BYTES = 256 * 1024;
/** With many readers, each has a smaller piece in memory: so much for all of them, and no less than that for one. */
const PIECES_BYTES = 8 * 1024 * 1024;
const SMALLEST_PIECE = 16 * 1024;

export class Spool {
  readonly #file: FileHandle;
  readonly #size: number;
  #written = 0;
  #state: 'open' | 'proven' | { readonly failure: unknown } = 'open';
  #changed = Promise.withResolvers<void>();
  #holders = 1;

  /** For a NAR of `size` bytes. The caller must `release()` it once. */
  static async open(directory: string, size: number): Promise<Spool> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const path = join(directory, `spool-${randomBytes(8).toString('hex')}`);
    const file = await open(path, 'wx+', 0o600);
    await unlink(path);
    return new Spool(file, size);
  }

  private constructor(file: FileHandle, size: number) {
    this.#file = file;
    this.#size = size;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, at, bytes.length - at, this.#written);
      at += bytesWritten;
      this.#written += bytesWritten;
    }
    this.#wake();
  }

  /** What was appended is the NAR: all of it may go out. */
  prove(): void {
    this.#state = 'proven';
    this.#wake();
  }

  /** Readers that are not at their end fail with this; no effect once proven. */
  fail(failure: unknown): void {
    if (this.#state === 'open') this.#state = { failure };
    this.#wake();
  }

  /** Bytes `start` to `end`, as they come. To be begun while somebody holds the spool. */
  async *read(start: number, end: number): AsyncIterable<Buffer> {
    this.#holders++;
    try {
      for (let at = start; at < end;) {
        const ready = await this.#readyAfter(at);
        const piece = Buffer.allocUnsafeSlow(Math.min(this.#pieceBytes(), Math.min(ready, end) - at));
        const { bytesRead } = await this.#file.read(piece, 0, piece.length, at);
        if (bytesRead === 0) throw new Error('the spool ended early');
        at += bytesRead;
        yield piece.subarray(0, bytesRead);
      }
    } finally {
      await this.release();
    }
  }

  /** The file goes with its last holder. */
  async release(): Promise<void> {
    if (--this.#holders === 0) await this.#file.close();
  }

  #pieceBytes(): number {
    return Math.max(SMALLEST_PIECE, Math.min(PIECE_BYTES, Math.floor(PIECES_BYTES / this.#holders)));
  }

  /** How far may be read, once that is beyond `at`. */
  async #readyAfter(at: number): Promise<number> {
    for (;;) {
      if (this.#state === 'proven') return this.#written;
      if (this.#state !== 'open') throw this.#state.failure;
      const ready = Math.min(this.#written, this.#size - HELD_BACK_BYTES);
      if (ready > at) return ready;
      await this.#changed.promise;
    }
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}
