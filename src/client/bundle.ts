// A bundle on its way to be sent (src/content/bundle-format.ts), and what has to be remembered of it until it is answered.
import { BUNDLE_MAGIC, formatRecord, type ChunkRecord, type FrameRecord } from '../content/bundle-format.ts';
import type { PathInfo } from '../effects/path-info.ts';
import { formatHashBytes } from '../nix/hash.ts';
import { formatNarInfo } from '../nix/narinfo.ts';

/** A NAR that is being sent, and its chunks by name so far. */
export interface OutgoingNar {
  readonly info: PathInfo;
  readonly chunks: ChunkRecord[];
  /** Bytes that are to come. */
  left: number;
}

/** What is added at once, at most: a frame with its chunks, or a narinfo. */
const LARGEST_RECORD = 2 * 1024 * 1024;

export class Bundle {
  /** NARs whose path record is in this bundle, in order. */
  readonly finished: OutgoingNar[] = [];
  /** NARs of which this bundle brings chunks, in order. */
  readonly nars: OutgoingNar[] = [];
  /** What its chunks decode to. */
  rawBytes = 0;
  #size = BUNDLE_MAGIC.length;
  #buffer: Buffer;
  #current: OutgoingNar | undefined;

  /** `buffer`: of a bundle that is answered. */
  constructor(buffer: Buffer) {
    this.#buffer = buffer;
    BUNDLE_MAGIC.copy(buffer);
  }

  static ofSize(bytes: number): Bundle {
    return new Bundle(Buffer.allocUnsafeSlow(bytes + LARGEST_RECORD));
  }

  /** What it was written into, for the next bundle. */
  get buffer(): Buffer {
    return this.#buffer;
  }

  get size(): number {
    return this.#size;
  }

  get isEmpty(): boolean {
    return this.#size === BUNDLE_MAGIC.length;
  }

  /** Adds the next chunk of a NAR, which the server holds, or the next ones in a frame. */
  chunks(nar: OutgoingNar, record: ChunkRecord | FrameRecord): void {
    this.#open(nar);
    this.#add(formatRecord(record));
    const added = record.kind === 'frame' ? record.chunks : [record];
    nar.chunks.push(...added);
    for (const { rawLength } of added) {
      nar.left -= rawLength;
      this.rawBytes += rawLength;
    }
  }

  /** All chunks of the NAR are in this bundle or in earlier ones. */
  finish(nar: OutgoingNar): void {
    const { info } = nar;
    const url = `nar/${formatHashBytes(info.narHash.bytes, 'nix32')}.nar`;
    const narInfo = formatNarInfo({ ...info, storePath: info.path, url, compression: 'none' });
    this.#add(formatRecord({ kind: 'path', narInfo }));
    this.finished.push(nar);
    this.#current = undefined;
  }

  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#size);
  }

  #open(nar: OutgoingNar): void {
    if (this.#current === nar) return;
    this.#current = nar;
    this.nars.push(nar);
    const hash = Buffer.from(nar.info.narHash.bytes);
    const { length } = nar.chunks;
    this.#add(
      formatRecord(
        length === 0
          ? { kind: 'begin', hash, size: nar.info.narSize }
          : { kind: 'resume', hash, chunks: length },
      ),
    );
  }

  #add(pieces: readonly Buffer[]): void {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (this.#size + length > this.#buffer.length)
      this.#buffer = Buffer.concat([this.bytes()], 2 * (this.#size + length));
    for (const piece of pieces) this.#size += piece.copy(this.#buffer, this.#size);
  }
}
