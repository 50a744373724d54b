// Bytes in, one zstd frame out, and back, on libuv's pool, several at once.
// Never nbWorkers (it truncates silently, nodejs#59899), never several frames in one call (nodejs#64741).
import { promisify } from 'node:util';
import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  zstdDecompress,
  type ZstdCompress,
  type ZstdDecompress,
} from 'node:zlib';
import { Semaphore } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseSingleFrame } from './zstd-frames.ts';

/** Most bytes that an uploaded frame of chunks decodes to. */
export const FRAME_BYTES: number = 512 * 1024;
/** The same of a frame that was made anew in storage: what a reader holds in memory to get at one of its chunks. */
export const LARGEST_FRAME_BYTES: number = 2 * 1024 * 1024;

/**
 * What a frame's size is worth. On ELF, in frames of 512 KiB: `usual` 2.8x at 220 MB/s a core, `quick` 2.5x at 320 MB/s.
 * `thorough`, in frames of LARGEST_FRAME_BYTES: 3.2x at 15 MB/s.
 */
export type Effort = 'quick' | 'usual' | 'thorough';

const EFFORTS: Readonly<Record<Effort, Readonly<Record<number, number>>>> = {
  quick: { [constants.ZSTD_c_compressionLevel]: 1 },
  usual: { [constants.ZSTD_c_compressionLevel]: 3 },
  // zstd's level 9 is 58 MB/s and 4 % larger, 16 is 0.4 % smaller at 5 MB/s: short matches and an optimal parse gain most of it,
  // deep searches little.
  thorough: {
    [constants.ZSTD_c_strategy]: constants.ZSTD_btopt,
    [constants.ZSTD_c_minMatch]: 3,
    [constants.ZSTD_c_searchLog]: 1,
    [constants.ZSTD_c_targetLength]: 16,
    [constants.ZSTD_c_hashLog]: 19,
    [constants.ZSTD_c_chainLog]: 19,
  },
};

/** Most bytes of a frame. */
export function frameBytes(effort: Effort): number {
  return effort === 'thorough' ? LARGEST_FRAME_BYTES : FRAME_BYTES;
}

/** The window is as large as a frame: a level's own, four times as large, finds nothing more and takes a tenth longer. */
export function zstdParameters(effort: Effort): Record<number, number> {
  return {
    ...EFFORTS[effort],
    [constants.ZSTD_c_windowLog]: Math.log2(frameBytes(effort)),
  };
}

/** zstd's bound: a frame of so many bytes comes in one piece. */
export function frameBound(bytes: number): number {
  return bytes + (bytes >> 8) + 512;
}
const ENCODERS = 4; // libuv's default pool size
const DECODERS = 4;
const SMALLEST_BUFFER = 64; // zlib's least chunkSize
/** A context keeps a buffer as large as the window: frames that ask for more get one of their own. */
const LARGEST_KEPT_WINDOW = 8 * 1024 * 1024;

const decompress = promisify(zstdDecompress);

/** Encodes up to ENCODERS frames at once; more wait their turn. The frame states its content's size. */
export async function encodeFrame(raw: Buffer, effort: Effort = 'usual'): Promise<Buffer> {
  return await turns.run(async () => {
    const encoder = idle[effort].pop() ?? newEncoder(effort);
    const frame = await encodeWith(encoder, raw);
    idle[effort].push(encoder); // not reached after a failure: a broken encoder is dropped
    return frame;
  });
}

/** Decodes exactly one frame of known size, into `target` when there is one. Anything else is `internal`: the frame is damaged. */
export async function decodeFrame(frame: Buffer, rawLength: number, target?: Buffer): Promise<Buffer> {
  const header = parseSingleFrame(frame);
  if (header === undefined) throw new SlipwayError('internal', 'A stored frame is not a zstd frame.');
  const into = (target ?? Buffer.allocUnsafeSlow(rawLength)).subarray(0, rawLength);
  const size =
    header.windowSize <= LARGEST_KEPT_WINDOW
      ? await decodingTurns.run(async () => await decodeKept(frame, into))
      : await decodeAlone(frame, into);
  if (size !== rawLength) throw wrongLength();
  return into;
}

async function decodeAlone(frame: Buffer, into: Buffer): Promise<number> {
  const chunkSize = Math.max(SMALLEST_BUFFER, into.length + 1); // the whole result in one call
  const raw = await decompress(frame, { chunkSize, maxOutputLength: Math.max(1, into.length) });
  return raw.copy(into);
}

async function decodeKept(frame: Buffer, into: Buffer): Promise<number> {
  const decoder: ReusedOutput = idleDecoders.pop() ?? newDecoder();
  try {
    decoder._outOffset = 0;
    const size = await decodeWith(decoder, frame, into);
    if (size === into.length) idleDecoders.push(decoder);
    else decoder.destroy();
    return size;
  } catch (error) {
    decoder.destroy();
    throw error;
  }
}

/** Returns how many bytes came; more than `into` holds fail. */
async function decodeWith(decoder: ZstdDecompress, frame: Buffer, into: Buffer): Promise<number> {
  let size = 0;
  return await new Promise<number>((resolve, reject) => {
    const settle = (done: () => void): void => {
      decoder.off('data', collect);
      decoder.off('error', fail);
      done();
    };
    const fail = (error: unknown): void => {
      decoder.on('error', () => undefined); // a decoder that is given up may complain once more
      settle(() => reject(error));
    };
    const collect = (piece: Buffer): void => {
      if (size + piece.length > into.length) return fail(wrongLength());
      into.set(piece, size);
      size += piece.length;
    };
    decoder.on('data', collect);
    decoder.on('error', fail);
    decoder.write(frame, (error) => {
      if (error) fail(error);
      else settle(() => resolve(size));
    });
  });
}

function wrongLength(): SlipwayError {
  return new SlipwayError('internal', 'A stored frame has the wrong length.');
}

/**
 * A decoder writes into a buffer of its own, one result behind the other, and takes a new one when that is full. Its results
 * are copied out at once, so it may begin at the start again: without this, ingest makes as many bytes of garbage as it
 * reads, and V8's collector takes a quarter of its time. The field is not public; a Node without it makes the garbage.
 */
type ReusedOutput = ZstdDecompress & { _outOffset?: number };

function newDecoder(): ReusedOutput {
  return createZstdDecompress({ chunkSize: LARGEST_FRAME_BYTES + SMALLEST_BUFFER });
}

// A fresh context for each frame would tell V8 of megabytes of foreign memory each time and keep its collector busy for
// a quarter of an ingest (measured). So contexts are kept: with ZSTD_e_end on every write, each write is one whole frame.
const idle: Readonly<Record<Effort, ZstdCompress[]>> = { quick: [], usual: [], thorough: [] };
const turns = new Semaphore(ENCODERS);
const idleDecoders: ZstdDecompress[] = [];
const decodingTurns = new Semaphore(DECODERS);

function newEncoder(effort: Effort): ZstdCompress {
  return createZstdCompress({
    flush: constants.ZSTD_e_end,
    chunkSize: frameBound(frameBytes(effort)),
    params: zstdParameters(effort),
  });
}

async function encodeWith(encoder: ZstdCompress, raw: Buffer): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const collect = (piece: Buffer): void => void pieces.push(piece);
  encoder.on('data', collect);
  try {
    await new Promise<void>((resolve, reject) => {
      encoder.write(raw, (error) => (error ? reject(error) : resolve()));
    });
  } finally {
    encoder.off('data', collect);
  }
  return pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces);
}
