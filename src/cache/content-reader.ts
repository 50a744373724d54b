// Reads contents back: as the stored zstd frames, copied as they are where all of a frame is needed (served-pieces.ts), or
// decompressed; whole or by range. Every frame's checksum is verified before a byte of it leaves (checked-frames.ts tells
// when it was verified lately), and the first run is read before a body is promised: damage found then means "absent";
// damage found later ends the stream with an error, never with fewer bytes.
import { crc32 } from 'node:zlib';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import { begun } from '../util/begun.ts';
import { SlipwayError, isCode } from '../util/errors.ts';
import { CheckedFrames } from './checked-frames.ts';
import type { ContentLayout, ContentLayouts } from './content-layout.ts';
import { DecodedFrames } from './decoded-frames.ts';
import { HotRuns } from './hot-runs.ts';
import { decodeFrame } from '../content/frame-codec.ts';
import { rawFrame } from '../content/raw-frame.ts';
import {
  brokenFrames,
  cutPart,
  fillRun,
  framesOf,
  piecesOf,
  planRuns,
  RUN_BYTES,
  type Run,
} from './piece-runs.ts';
import { isWhole, type Piece } from './served-pieces.ts';
import type { StoredFrame } from './stored-chunks.ts';
import { StoredXz } from '../content/stored-xz.ts';

const RUNS_AHEAD = 2;
/** Of all readers together: a crowd that takes nothing would else hold three runs each. */
const MOST_RUNS_AHEAD = 32;
/** With more readers than that, each reads less in one go. */
const CROWD = 32;
const RUN_BYTES_IN_CROWD = 128 * 1024;
/** Buffers that wait for the next run. Fresh ones cost more than reading: the kernel clears them, V8 hunts for them. */
const MOST_SPARE_BUFFERS = 16;

/** `zstd`: the stored frames. `raw`: the content itself. `xz`: the content in an .xz file that compresses nothing. */
export type Encoding = 'zstd' | 'raw' | 'xz';

/** Bytes `start` (included) to `end` (excluded) of the encoded content. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export interface OpenedContent {
  /** Length of the whole encoded content. */
  readonly length: number;
  /** Whether it can be read from anywhere, as often as need be, at no more cost than what is read. */
  readonly isStored?: boolean;
  /**
   * The bytes of `range`, the first run of them read and checked; `undefined` when that run is missing or damaged.
   * The iterable yields exactly the range or throws. With `lent`, a piece is the caller's only until it asks for the next.
   */
  start(range: ByteRange, pieces?: 'kept' | 'lent'): Promise<AsyncIterable<Buffer> | undefined>;
}

export interface ContentReaderParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly layouts: ContentLayouts;
  /** Called after a content was marked as damaged. */
  readonly onDamage: () => void;
}

export class ContentReader {
  readonly #database: Database;
  readonly #blobs: BlobStore;
  readonly #layouts: ContentLayouts;
  readonly #onDamage: () => void;
  readonly #checked = new CheckedFrames();
  readonly #decoded = new DecodedFrames();
  readonly #hot = new HotRuns();
  #readers = 0;
  /** Runs that are read before they are needed. */
  #ahead = 0;

  constructor(parts: ContentReaderParts) {
    this.#database = parts.database;
    this.#blobs = parts.blobs;
    this.#layouts = parts.layouts;
    this.#onDamage = parts.onDamage;
  }

  /** `undefined` when the content is absent or known to be damaged, or a pack of it is missing or too short. */
  async open(contentId: number, encoding: Encoding): Promise<OpenedContent | undefined> {
    if (encoding === 'xz') return inXz(await this.open(contentId, 'raw'));
    const layout = await this.#findPresent(contentId);
    if (layout === undefined) return undefined;
    const offsets = encoding === 'zstd' ? layout.storedOffsets : layout.rawOffsets;
    const length = offsets.at(-1) ?? 0;
    return {
      length,
      isStored: true,
      start: async (range, pieces = 'kept') =>
        await peeked(this.#read({ layout, encoding, lent: pieces === 'lent' && encoding === 'zstd' }, range)),
    };
  }

  /** The layout, once all its packs are there: most damage by hand or by a lost disk shows before a byte is promised. */
  async #findPresent(contentId: number): Promise<ContentLayout | undefined> {
    const known = await this.#layouts.find(contentId);
    if (known !== undefined && (await this.#findLost(known)).length === 0) return known;
    // Repacking moves frames, and a layout from before that names packs which are gone.
    const layout = known === undefined ? undefined : await this.#layouts.refresh(contentId);
    // A chunk of it was found damaged in another content: from now on this one counts as absent as well.
    if (layout === undefined) return await this.#markDamaged(contentId, []);
    const lost = await this.#findLost(layout);
    return lost.length === 0 ? layout : await this.#markDamaged(contentId, lost);
  }

  /** Frames in packs that are missing or too short: one stat a pack. */
  async #findLost(layout: ContentLayout): Promise<StoredFrame[]> {
    const frames = layout.pieces.map(({ frame }) => frame);
    const ends = new Map<string, number>();
    for (const { blobKey, offset, length } of frames)
      ends.set(blobKey, Math.max(ends.get(blobKey) ?? 0, offset + length));
    const lost: StoredFrame[] = [];
    const marks: (string | undefined)[] = [];
    for (const [blobKey, end] of ends) {
      const { size, mark } = await this.#inspect(blobKey);
      marks.push(mark);
      if (size >= end) continue;
      lost.push(...frames.filter((frame) => frame.blobKey === blobKey));
    }
    this.#checked.begin(layout, marks);
    return lost;
  }

  async #inspect(blobKey: string): Promise<{ readonly size: number; readonly mark: string | undefined }> {
    const found = await this.#blobs.inspect?.(blobKey);
    if (found !== undefined) return found;
    return { size: (await this.#blobs.size(blobKey)) ?? -1, mark: undefined };
  }

  async *#read(reading: Reading, range: ByteRange): AsyncIterable<Buffer> {
    const { layout, encoding } = reading;
    const offsets = encoding === 'zstd' ? layout.storedOffsets : layout.rawOffsets;
    if (range.end <= range.start) return;
    const from = frameAt(offsets, range.start);
    const to = frameAt(offsets, range.end - 1) + 1;
    for await (const { index, parts, buffer } of this.#readRuns(reading, from, to)) {
      let at = offsets[index] ?? 0;
      for await (const part of parts) {
        const start = Math.max(0, range.start - at);
        const end = Math.min(part.length, range.end - at);
        if (end > start) yield part.subarray(start, end);
        at += part.length;
      }
      // Reached only when the next piece is asked for. A buffer whose reader has left may still be on its way out.
      if (buffer !== undefined && spareBuffers.length < MOST_SPARE_BUFFERS) spareBuffers.push(buffer);
    }
  }

  async *#readRuns(reading: Reading, from: number, to: number): AsyncIterable<ReadRun> {
    this.#readers++;
    try {
      const most = this.#readers > CROWD ? RUN_BYTES_IN_CROWD : RUN_BYTES;
      yield* this.#readAhead(reading, planRuns(reading.layout, from, to, most));
    } finally {
      this.#readers--;
    }
  }

  async *#readAhead(reading: Reading, runs: Iterator<Run, undefined>): AsyncIterable<ReadRun> {
    const started: Promise<ReadRun>[] = [];
    const mayStart = (): boolean =>
      started.length === 0 || (started.length <= RUNS_AHEAD && this.#ahead < MOST_RUNS_AHEAD);
    try {
      for (let next = runs.next(); next.done !== true || started.length > 0;) {
        for (; next.done !== true && mayStart(); next = runs.next()) {
          const run = this.#readRun(reading, next.value);
          run.catch(() => undefined); // awaited below, unless an earlier run fails first
          started.push(run);
          this.#ahead++;
        }
        const run = started.shift() as Promise<ReadRun>;
        this.#ahead--;
        yield await run;
      }
    } finally {
      this.#ahead -= started.length;
    }
  }

  async #readRun(reading: Reading, run: Run): Promise<ReadRun> {
    const { layout, encoding, lent } = reading;
    if (!run.whole)
      return { index: run.index, parts: [await this.#readPart(reading, run)], buffer: undefined };
    const { bytes, buffer } = await this.#readFilled(layout, run, lent);
    const parts = encoding === 'zstd' ? [bytes] : decodeRun(layout, run, bytes);
    return { index: run.index, parts, buffer };
  }

  /** The run as it goes out: from memory, when it was read again and again and nobody has touched its pack since. */
  async #readFilled(
    layout: ContentLayout,
    run: Run,
    lent: boolean,
  ): Promise<{ readonly bytes: Buffer; readonly buffer: Buffer | undefined }> {
    const hot = this.#hot.find(layout, run);
    if (hot !== undefined && !this.#checked.isDoubtful(layout, run.index, run.count))
      return { bytes: hot, buffer: undefined };
    const isKept = this.#hot.isWorthKeeping(layout, run);
    const mayBorrow = lent && !isKept && run.length > RUN_BYTES_IN_CROWD && run.length <= RUN_BYTES;
    const buffer = mayBorrow ? (spareBuffers.pop() ?? Buffer.allocUnsafeSlow(RUN_BYTES)) : undefined;
    const bytes = await this.#readFrames(layout, run, buffer);
    fillRun(layout, run, bytes);
    if (isKept) this.#hot.keep(layout, run, bytes);
    return { bytes, buffer };
  }

  /** A part of a frame, as a frame of its own or as it is. */
  async #readPart({ layout, encoding }: Reading, run: Run): Promise<Buffer> {
    const piece = layout.pieces[run.index] as Piece;
    const { frame } = piece;
    const decoded = await this.#decoded.get(
      frame,
      async () => await decodeFrame(await this.#readFrames(layout, run, undefined), frame.rawLength),
    );
    const bytes = cutPart(piece, decoded);
    return encoding === 'zstd' ? rawFrame(bytes) : bytes;
  }

  /** The frames of a run as they are stored, intact. */
  async #readFrames(layout: ContentLayout, run: Run, buffer: Buffer | undefined): Promise<Buffer> {
    const bytes = await this.#blobs.read(run.blobKey, run.offset, run.length, buffer);
    const broken = this.#findBroken(layout, run, bytes);
    if (bytes !== undefined && broken.length === 0) return bytes;
    const fresh = await this.#layouts.refresh(layout.contentId);
    const now = fresh && samePieces(layout, fresh, run);
    const moved = now && (await this.#readMoved(now));
    if (moved !== undefined) return moved;
    // Written anew without what nobody needs any more: what was promised cannot go on, but the content is there.
    const isElsewhere = fresh !== undefined && now === undefined;
    if (!isElsewhere) await this.#markDamaged(layout.contentId, broken);
    throw new SlipwayError('unavailable', 'A stored chunk is missing or damaged, or was moved meanwhile.');
  }

  #findBroken(layout: ContentLayout, run: Run, bytes: Buffer | undefined): readonly StoredFrame[] {
    if (bytes === undefined) return piecesOf(layout, run).map(({ frame }) => frame);
    if (this.#checked.has(layout, run.index, run.count)) return [];
    const broken = brokenFrames(layout, run, bytes);
    if (broken.length === 0) this.#checked.add(layout, run.index, run.count);
    return broken;
  }

  /** The frames of a run from where repacking has put them while the content was being read. */
  async #readMoved(pieces: readonly Piece[]): Promise<Buffer | undefined> {
    const frames: Buffer[] = [];
    for (const { frame } of pieces) {
      const bytes = await this.#blobs.read(frame.blobKey, frame.offset, frame.length);
      if (bytes === undefined || crc32(bytes) !== frame.crc) return undefined;
      frames.push(bytes);
    }
    return Buffer.concat(frames);
  }

  /** From now on the content counts as absent; the next upload that carries the chunks heals it. */
  async #markDamaged(contentId: number, frames: readonly StoredFrame[]): Promise<undefined> {
    const now = Date.now();
    await this.#database.write(async (transaction) => {
      for (const frame of frames)
        await transaction
          .updateTable('chunk')
          .set({ damaged_at: now })
          .where('pack_id', '=', (select) =>
            select.selectFrom('pack').select('id').where('blob_key', '=', frame.blobKey),
          )
          .where('frame_offset', '=', frame.offset)
          .where('damaged_at', 'is', null)
          .execute();
      await transaction.updateTable('content').set({ damaged_at: now }).where('id', '=', contentId).execute();
    });
    this.#layouts.forget();
    this.#onDamage();
  }
}

const spareBuffers: Buffer[] = [];

interface Reading {
  readonly layout: ContentLayout;
  readonly encoding: Exclude<Encoding, 'xz'>;
  readonly lent: boolean;
}

interface ReadRun {
  /** Position of the first piece in the layout. */
  readonly index: number;
  readonly parts: Iterable<Buffer> | AsyncIterable<Buffer>;
  /** What to use again once the bytes are sent. */
  readonly buffer: Buffer | undefined;
}

async function* decodeRun(layout: ContentLayout, run: Run, bytes: Buffer): AsyncIterable<Buffer> {
  for (const { frame, piece } of framesOf(layout, run, bytes))
    yield await decodeFrame(frame, piece.frame.rawLength);
}

/** The run's pieces in a newer layout; `undefined` unless they are the same bytes of the content in frames as long. */
function samePieces(layout: ContentLayout, fresh: ContentLayout, run: Run): Piece[] | undefined {
  const first = frameAt(fresh.rawOffsets, layout.rawOffsets[run.index] ?? 0);
  const found: Piece[] = [];
  for (let n = 0; n < run.count; n++) {
    const piece = fresh.pieces[first + n];
    const same =
      piece !== undefined &&
      isSameForm(piece, layout.pieces[run.index + n] as Piece) &&
      fresh.rawOffsets[first + n] === layout.rawOffsets[run.index + n];
    if (!same) return undefined;
    found.push(piece);
  }
  return found;
}

function isSameForm(one: Piece, other: Piece): boolean {
  const sameSpan = one.start === other.start && one.end === other.end;
  return sameSpan && isWhole(one) === isWhole(other) && one.frame.length === other.frame.length;
}

function inXz(raw: OpenedContent | undefined): OpenedContent | undefined {
  if (raw === undefined) return undefined;
  const file = new StoredXz(raw.length);
  return {
    length: file.length,
    isStored: true,
    start: async (range) => {
      const pieces = await raw.start(file.rawSpan(range));
      return pieces && file.wrap(range, pieces);
    },
  };
}

/** Index of the piece that holds byte `position`. */
function frameAt(offsets: Float64Array, position: number): number {
  let low = 0;
  let high = offsets.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((offsets[middle] ?? 0) <= position) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Reads the first piece at once; `undefined` when that fails because the storage lacks it. */
async function peeked(pieces: AsyncIterable<Buffer>): Promise<AsyncIterable<Buffer> | undefined> {
  return await begun(pieces).catch((error: unknown) => {
    if (isCode(error, 'unavailable')) return undefined;
    throw error;
  });
}
