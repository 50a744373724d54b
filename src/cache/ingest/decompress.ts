// The body of an upload as the client compressed it, turned back into plain bytes while it arrives.
// Memory is bounded by the decoder's window (128 MiB at most for zstd, 64 MiB for xz, 8 MiB for what Nix writes of either),
// whatever the size; large windows take turns. What comes out is bounded by the NAR parser behind it.
import { Readable, pipeline } from 'node:stream';
import { createZstdDecompress } from 'node:zlib';
import { Semaphore } from '../../util/concurrency.ts';
import { SlipwayError, messageOf } from '../../util/errors.ts';
import { decodeFrame } from '../../content/frame-codec.ts';
import { decompressXz } from './xz-pool.ts';
import { ZstdFrameSplitter, type FramePart } from '../../content/zstd-frames.ts';

export type UploadCompression = 'none' | 'zstd' | 'xz';

/** How an upload is compressed, by the ending of its file name after `.nar`. What we cannot read is `invalid`. */
export function uploadCompression(suffix: string): UploadCompression {
  if (suffix === '') return 'none';
  if (suffix === '.zst') return 'zstd';
  if (suffix === '.xz') return 'xz';
  throw new SlipwayError('invalid', `This cache does not take NARs compressed as "${suffix.slice(1)}".`, {
    next: 'Add ?compression=zstd to the URL of the cache: nix copy --to "http://…/<cache>?compression=zstd" …',
  });
}

/** Frames of a known size up to this are decoded in one call; larger ones stream. */
const ONE_SHOT_BYTES = 4 * 1024 * 1024;
/** A whole zstd block at a time; zlib's default of 16 KiB costs a callback each. */
const OUTPUT_BYTES = 256 * 1024;

/** What Nix and zstd ask for below their ultra levels; eight uploads may have as much at once. */
const USUAL_WINDOW = 8 * 1024 * 1024;
const largeWindows = new Semaphore(1);

/** Decompresses; a broken or truncated stream is `nar_invalid`. */
export function decompressed(
  body: AsyncIterable<Buffer>,
  compression: UploadCompression,
): AsyncIterable<Buffer> {
  if (compression === 'none') return body;
  return compression === 'zstd' ? decompressZstd(body) : decompressXz(body);
}

async function* decompressZstd(body: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const parts = splitFrames(body)[Symbol.asyncIterator]();
  try {
    for (let next = await parts.next(); next.done !== true; next = await parts.next())
      yield* isOneShot(next.value) ? decodeWhole(next.value) : decodeStream(next.value, parts);
  } finally {
    await parts.return?.();
  }
}

async function* splitFrames(body: AsyncIterable<Buffer>): AsyncIterable<FramePart> {
  const splitter = new ZstdFrameSplitter();
  for await (const chunk of body) yield* splitter.push(chunk);
  splitter.end();
}

function isOneShot(part: FramePart): boolean {
  return part.first && part.last && (part.contentSize ?? Infinity) <= ONE_SHOT_BYTES;
}

async function* decodeWhole(part: FramePart): AsyncIterable<Buffer> {
  try {
    yield await decodeFrame(part.bytes, part.contentSize ?? 0);
  } catch (error) {
    throw brokenStream(error);
  }
}

async function* decodeStream(first: FramePart, parts: AsyncIterator<FramePart>): AsyncIterable<Buffer> {
  using _turn = first.windowSize > USUAL_WINDOW ? await largeWindows.acquire() : undefined;
  const decoder = createZstdDecompress({ chunkSize: OUTPUT_BYTES });
  const source = Readable.from(framesRest(first, parts), { objectMode: false });
  pipeline(source, decoder, () => undefined); // a failure destroys the decoder, and so ends the loop below
  let failure: unknown;
  source.once('error', (error) => (failure = error));
  try {
    for await (const chunk of decoder) yield chunk as Buffer;
  } catch (error) {
    throw failure === undefined ? brokenStream(error) : failure;
  } finally {
    source.destroy();
    decoder.destroy();
  }
}

/** The parts of one frame, from the one already taken to the one that ends it. */
async function* framesRest(first: FramePart, parts: AsyncIterator<FramePart>): AsyncIterable<Buffer> {
  yield first.bytes;
  if (first.last) return;
  for (let next = await parts.next(); next.done !== true; next = await parts.next()) {
    yield next.value.bytes;
    if (next.value.last) return;
  }
}

function brokenStream(error: unknown): SlipwayError {
  return new SlipwayError('nar_invalid', `The zstd stream is broken: ${messageOf(error)}`, { cause: error });
}
