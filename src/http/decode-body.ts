// Takes Content-Encoding off a small upload that has to be read here: newer Nix may send narinfos compressed
// (`narinfo-compression`). What grows beyond the limit is refused while it grows.
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate, zstdDecompress, type InputType } from 'node:zlib';
import { SlipwayError } from '../util/errors.ts';

type Decoder = (bytes: InputType, options: { maxOutputLength: number }) => Promise<Buffer>;

const DECODERS: ReadonlyMap<string, Decoder> = new Map([
  ['br', promisify(brotliDecompress) as Decoder],
  ['gzip', promisify(gunzip) as Decoder],
  ['deflate', promisify(inflate) as Decoder],
  ['zstd', promisify(zstdDecompress) as Decoder],
]);

/** The text; `invalid` for other encodings, broken ones, and those with more than `limit` bytes in them. */
export async function decodeText(
  bytes: Buffer,
  encoding: string | undefined,
  limit: number,
): Promise<string> {
  const name = encoding?.trim().toLowerCase() ?? '';
  if (name === '' || name === 'identity') return bytes.toString('utf8');
  const decode = DECODERS.get(name);
  if (decode === undefined)
    throw new SlipwayError('invalid', 'The Content-Encoding is not one that can be read here.', {
      next: `Send it plain, or with one of ${[...DECODERS.keys()].join(', ')}.`,
    });
  try {
    return (await decode(bytes, { maxOutputLength: limit })).toString('utf8');
  } catch (cause) {
    throw new SlipwayError('invalid', `The body is not ${name}, or holds more than ${limit} bytes.`, {
      cause,
    });
  }
}
