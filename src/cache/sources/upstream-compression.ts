// How upstreams compress NARs, and which of it can be read here.
import { pipeline, Readable, type Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip } from 'node:zlib';
import { messageOf, SlipwayError } from '../../util/errors.ts';
import { decompressed, type UploadCompression } from '../ingest/decompress.ts';

export type ReadableCompression = UploadCompression | 'br' | 'gzip';

const READABLE = new Set<string>(['none', 'zstd', 'xz', 'br', 'gzip'] satisfies ReadableCompression[]);

/** Nix's name of a compression, when we can undo it; bzip2, lzip and the like are for other caches. */
export function readableCompression(name: string): ReadableCompression | undefined {
  return READABLE.has(name) ? (name as ReadableCompression) : undefined;
}

/** The plain NAR; a broken or truncated stream is `nar_invalid`, a failure of `body` stays what it is. */
export function decompressNar(
  body: AsyncIterable<Buffer>,
  compression: ReadableCompression,
): AsyncIterable<Buffer> {
  if (compression === 'br') return throughZlib(body, createBrotliDecompress());
  if (compression === 'gzip') return throughZlib(body, createGunzip());
  return decompressed(body, compression);
}

async function* throughZlib(body: AsyncIterable<Buffer>, decoder: Transform): AsyncIterable<Buffer> {
  const source = Readable.from(body, { objectMode: false });
  let failure: unknown;
  source.once('error', (error) => (failure = error));
  pipeline(source, decoder, () => undefined); // a failure destroys the decoder, and so ends the loop below
  try {
    yield* decoder as AsyncIterable<Buffer>;
  } catch (error) {
    throw failure ?? new SlipwayError('nar_invalid', `The compressed NAR is broken: ${messageOf(error)}`);
  } finally {
    source.destroy();
    decoder.destroy();
  }
}
