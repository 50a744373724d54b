// Attic's get-missing-paths and upload-path (server/src/api/v1): a path comes as one request, its description in a
// header or in front of the body, and the NAR uncompressed after it.
import {
  atticMissingPaths,
  atticNarInfo,
  type AtticNarInfo,
  type AtticUploadResult,
} from '../api/attic-v1.ts';
import { formatIssue } from '../api/issue-text.ts';
import { mayContribute, mayWrite, type Caller } from '../auth/caller.ts';
import { formatHash, parseHash, type Hash } from '../nix/hash.ts';
import { formatNarInfo } from '../nix/narinfo.ts';
import { parseStorePath, parseStorePathBaseName, storePathBaseName } from '../nix/store-path.ts';
import { SlipwayError, isCode } from '../util/errors.ts';
import { atticError } from './attic-failure.ts';
import { admitToCache, readAtticJson, sendJson, type AtticParts } from './attic-request.ts';
import { admitWriter, type WriteAccess } from './cache-access.ts';
import type { Exchange } from './cache-request.ts';
import { splitBody } from './split-body.ts';
import { readUpload } from './upload-body.ts';

const MAX_HASHES_BYTES = 32 * 1024 * 1024; // some 900,000 hashes
const MAX_PREAMBLE_BYTES = 1024 * 1024; // Attic's max-nar-info-size

const NAR_INFO = 'x-attic-nar-info';
const PREAMBLE_SIZE = 'x-attic-nar-info-preamble-size';

export async function sendMissingPaths(parts: AtticParts, exchange: Exchange): Promise<void> {
  await requireCredential(parts, exchange);
  const wanted = await readAtticJson(exchange, atticMissingPaths, MAX_HASHES_BYTES);
  const { cache, base } = await admitPusher(parts, exchange, wanted.cache);
  const missing = await parts.cache.findMissing([cache, ...(base ? [base] : [])], wanted.store_path_hashes);
  sendJson(exchange, { missing_paths: missing });
}

export async function takePath(parts: AtticParts, exchange: Exchange): Promise<void> {
  const { info, access, nar } = await openUpload(parts, exchange);
  const narHash = parseNarHash(info.nar_hash);
  const { cache, base, writer } = access;
  if (info.nar_size > parts.maxNarSize)
    throw new SlipwayError(
      'too_large',
      `The NAR is larger than the ${parts.maxNarSize} bytes that are accepted here.`,
    );
  await parts.cache.checkRoom(cache, base, info.nar_size);
  const text = narInfoText(info, narHash, cache.storeDir);
  const known = await parts.cache.holdsContent(narHash.bytes);
  const fileName = `${formatHash(narHash).slice('sha256:'.length)}.nar`;
  const put = {
    cache,
    ...(base && { base }),
    fileName,
    body: ofSize(nar, info.nar_size),
    writer: writer.id,
    maxNarSize: info.nar_size,
  };
  await parts.cache.putNar(put).catch(explainBadNar);
  const hash = info.store_path_hash;
  await parts.cache.putNarInfo({ cache, ...(base && { base }), hash, text, writer, anyOrder: true });
  const result: AtticUploadResult = known
    ? { kind: 'Deduplicated', frac_deduplicated: null }
    : { kind: 'Uploaded', file_size: info.nar_size, frac_deduplicated: null };
  sendJson(exchange, result);
}

interface Upload {
  readonly info: AtticNarInfo;
  readonly access: WriteAccess;
  readonly nar: AsyncIterable<Buffer>;
}

/** The permission is asked as soon as it is known for which cache. If both headers are there, the preamble counts. */
async function openUpload(parts: AtticParts, exchange: Exchange): Promise<Upload> {
  const { headers } = exchange.request;
  const size = headers[PREAMBLE_SIZE];
  if (size === undefined) {
    const text = headers[NAR_INFO];
    if (typeof text !== 'string') throw new SlipwayError('invalid', 'X-Attic-Nar-Info must be set');
    // Node reads headers as Latin-1; the client sends UTF-8.
    const info = parseInfo(Buffer.from(text, 'latin1'));
    const access = await admitPusher(parts, exchange, info.cache);
    return { info, access, nar: readUpload(exchange, parts.maxNarSize) };
  }
  const length = parsePreambleSize(size);
  await requireCredential(parts, exchange);
  const { head, rest } = await splitBody(readUpload(exchange, length + parts.maxNarSize), length);
  if (head.length !== length) throw new SlipwayError('invalid', "Upload info doesn't match specified size");
  const info = parseInfo(head);
  return { info, access: await admitPusher(parts, exchange, info.cache), nar: rest };
}

/** For what reads megabytes before it is known for which cache they are: at least some credential has to be good. */
async function requireCredential({ tokens }: AtticParts, { request }: Exchange): Promise<void> {
  if ((await tokens.findCaller(request.headers.authorization)) === undefined)
    throw atticError('Unauthorized');
}

async function admitPusher(parts: AtticParts, { request }: Exchange, name: string): Promise<WriteAccess> {
  const pushes = (caller: Caller | undefined): boolean =>
    mayWrite(caller, name) || mayContribute(caller, name);
  await admitToCache(parts, request, name, pushes);
  return await admitWriter(parts, request, name);
}

function parsePreambleSize(text: string | readonly string[]): number {
  if (typeof text !== 'string' || !/^\+?\d{1,15}$/.test(text))
    throw new SlipwayError('invalid', 'X-Attic-Nar-Info-Preamble-Size must be a valid unsigned integer');
  const size = Number(text);
  if (size > MAX_PREAMBLE_BYTES) throw new SlipwayError('invalid', 'Upload info is too large');
  return size;
}

function parseInfo(bytes: Buffer): AtticNarInfo {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new SlipwayError('invalid', 'The upload info is not JSON.', { cause });
  }
  const parsed = atticNarInfo.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `The upload info does not fit: ${formatIssue(parsed.error.issues[0])}.`);
}

function parseNarHash(text: string): Hash {
  const hash = parseHash(text);
  if (hash.algo === 'sha256') return hash;
  throw new SlipwayError('invalid', 'The NAR hash must be a SHA-256.');
}

function narInfoText(info: AtticNarInfo, narHash: Hash, storeDir: string): string {
  const baseName = (text: string): string => storePathBaseName(parseStorePathBaseName(text, storeDir));
  return formatNarInfo({
    storePath: parseStorePath(info.store_path, storeDir),
    url: `nar/${formatHash(narHash).slice('sha256:'.length)}.nar`,
    compression: 'none',
    narHash,
    narSize: info.nar_size,
    references: info.references.map((reference) => parseStorePathBaseName(reference, storeDir)),
    signatures: info.sigs.slice(0, 64),
    ...(info.system && { system: info.system }),
    ...(info.deriver && { deriver: baseName(info.deriver) }),
    ...(info.ca && { contentAddress: info.ca }),
  });
}

async function* ofSize(nar: AsyncIterable<Buffer>, expected: number): AsyncIterable<Buffer> {
  let size = 0;
  for await (const piece of nar) {
    size += piece.length;
    if (size > expected) break;
    yield piece;
  }
  if (size !== expected) throw badNar();
}

function explainBadNar(error: unknown): never {
  throw isCode(error, 'nar_hash_mismatch') ? badNar(error) : error;
}

/** Attic's words for it, which its users search for. */
function badNar(cause?: unknown): SlipwayError {
  return new SlipwayError('nar_hash_mismatch', 'Bad NAR Hash or Size', { cause });
}
