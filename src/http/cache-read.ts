// GET and HEAD of the data plane: nix-cache-info, narinfos, NARs with ranges, logs and other side files.
// Every body has a known length; nothing is promised before its first bytes are read and checked.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { writerOf } from '../auth/caller.ts';
import type { BinaryCache, FoundNar } from '../cache/binary-cache.ts';
import type { Cache } from '../cache/cache-registry.ts';
import type { ByteRange, Encoding, OpenedContent } from '../cache/content-reader.ts';
import type { FoundDebugLink } from '../cache/debug-links.ts';
import { parseDebugLinkName } from '../nix/debug-link.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CacheReadRequest } from './cache-request.ts';
import { parseRange, type RangeRequest } from './range.ts';
import { endWithText, sendBody, sendRepeatable, whenNext } from './send-body.ts';

const YEAR_S = 31_536_000;

export async function readFromCache(binaryCache: BinaryCache, incoming: CacheReadRequest): Promise<void> {
  const { route } = incoming;
  switch (route.kind) {
    case 'cache-info':
      return sendText(incoming, cacheInfo(incoming.cache), { 'content-type': 'text/x-nix-cache-info' });
    case 'narinfo':
      return await sendNarInfo(binaryCache, incoming, route.hash);
    case 'nar':
      return await sendNar(binaryCache, incoming, route.fileName);
    case 'other':
      return await sendSideFile(binaryCache, incoming, route.name);
  }
}

function cacheInfo(cache: Cache): string {
  return `WantMassQuery: 1\nStoreDir: ${cache.storeDir}\nPriority: ${cache.priority}\n`;
}

async function sendNarInfo(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  hash: string,
): Promise<void> {
  const found =
    (await firstOf(incoming, async (cache) => await binaryCache.findNarInfo(cache, hash))) ??
    (await firstOf(incoming, async (cache) => await binaryCache.findOfferedNarInfo(cache, hash)));
  binaryCache.lookups.note(incoming.cache.id, found !== undefined);
  if (found === undefined) throw absent();
  sendText(incoming, found.text, {
    'content-type': 'text/x-nix-narinfo',
    // An hour: clients keep narinfos for 30 days by themselves, proxies should not.
    'cache-control': caching(incoming.cache, 3600),
    etag: found.etag,
  });
}

async function sendNar(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  fileName: string,
): Promise<void> {
  const viewer = incoming.caller && writerOf(incoming.caller);
  const found =
    (await firstOf(incoming, async (cache) => await binaryCache.findNar(cache, fileName, viewer))) ??
    (await firstOf(incoming, async (cache) => await binaryCache.findOfferedNar(cache, fileName))) ??
    (await findArchive(binaryCache, incoming, fileName));
  if (found === undefined) throw absent();
  const headers = {
    'content-type': 'application/x-nix-nar',
    'cache-control': `${caching(incoming.cache, YEAR_S)}, immutable`,
  };
  if (found.kind === 'stored') await sendStored(binaryCache, incoming, { ...found, headers });
  else await sendContent(incoming, found.nar, { ...headers, etag: found.etag });
}

/** Not for HEAD: nix asks so whether it has to send a file, and a narinfo can claim none that only an upstream has. */
async function findArchive(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  fileName: string,
): Promise<FoundNar | undefined> {
  if (incoming.request.method === 'HEAD') return undefined;
  return await firstOf(incoming, async (cache) => await binaryCache.findOfferedArchive(cache, fileName));
}

async function sendSideFile(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  name: string,
): Promise<void> {
  const found = await findSideFile(binaryCache, incoming, name);
  if (found === undefined) return await sendOfferedFile(binaryCache, incoming, name);
  if ('text' in found) return sendText(incoming, found.text, sideFileHeaders('application/json', undefined));
  await sendStored(binaryCache, incoming, {
    contentId: found.contentId,
    encoding: 'raw',
    headers: sideFileHeaders(found.contentType, found.contentEncoding),
  });
}

async function findSideFile(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  name: string,
): Promise<FoundDebugLink | undefined> {
  const listed = /^([0-9a-z]{32})\.ls$/.exec(name)?.[1];
  const buildId = parseDebugLinkName(name);
  return await firstOf(incoming, async (cache) => {
    if (listed !== undefined) return await binaryCache.listings.find(cache, listed);
    if (buildId !== undefined) return await binaryCache.debugLinks.find(cache, buildId, name);
    return await binaryCache.sideFiles.find(cache, name);
  });
}

async function sendOfferedFile(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  name: string,
): Promise<void> {
  const { request, response } = incoming;
  const contentType = binaryCache.sideFiles.typeOf(name);
  // nix asks so whether it has to send a link of its own; one of an upstream does not stand in for that.
  const forWriter = request.method === 'HEAD' && name.startsWith('debuginfo/');
  if (contentType === undefined || forWriter) throw absent();
  if (!(await whenNext(response))) return;
  const file = await firstOf(incoming, async (cache) => await binaryCache.sources.files.find(cache, name));
  if (file === undefined) throw absent();
  const headers = sideFileHeaders(contentType, file.contentEncoding);
  response.writeHead(200, { ...headers, 'content-length': file.body.length });
  if (request.method === 'HEAD') response.end();
  else await sendBody(response, Readable.from([file.body]));
}

function sideFileHeaders(contentType: string, contentEncoding: string | undefined): OutgoingHttpHeaders {
  return {
    'content-type': contentType,
    'cache-control': 'no-cache',
    'x-content-type-options': 'nosniff',
    ...(contentEncoding === undefined ? {} : { 'content-encoding': contentEncoding }),
  };
}

async function firstOf<T>(
  { layers }: CacheReadRequest,
  find: (cache: Cache) => Promise<T | undefined>,
): Promise<T | undefined> {
  for (const cache of layers) {
    const found = await find(cache);
    if (found !== undefined) return found;
  }
  return undefined;
}

interface StoredAnswer {
  readonly contentId: number;
  readonly encoding: Encoding;
  readonly headers: OutgoingHttpHeaders;
}

async function sendStored(
  binaryCache: BinaryCache,
  incoming: CacheReadRequest,
  answer: StoredAnswer,
): Promise<void> {
  const content = await binaryCache.contents.open(answer.contentId, answer.encoding);
  if (content === undefined) throw absent();
  // Length and encoding tell apart the spellings of one content that a client may have begun to read.
  const etag = `"${answer.contentId}-${answer.encoding}-${content.length}"`;
  await sendContent(incoming, content, { ...answer.headers, etag });
}

async function sendContent(
  { request, response }: CacheReadRequest,
  content: OpenedContent,
  known: OutgoingHttpHeaders & { readonly etag: string },
): Promise<void> {
  const { etag } = known;
  const headers = { ...known, 'accept-ranges': 'bytes' };
  if (request.headers['if-none-match'] === etag) return void response.writeHead(304, headers).end();
  const range = wantedRange(request, etag, content.length);
  if (range.kind === 'unsatisfiable')
    return void response
      .writeHead(416, { 'content-range': `bytes */${content.length}`, 'content-length': 0 })
      .end();
  const bounds = range.kind === 'part' ? range : { start: 0, end: content.length };
  const partial = range.kind === 'part' && {
    'content-range': `bytes ${range.start}-${range.end - 1}/${content.length}`,
  };
  const promise = (): void =>
    void response.writeHead(partial ? 206 : 200, {
      ...headers,
      ...partial,
      'content-length': bounds.end - bounds.start,
    });
  if (request.method === 'HEAD') {
    promise();
    response.end();
  } else if (!(await sendRange(response, { content, bounds, promise }))) throw absent();
}

interface PromisedRange {
  readonly content: OpenedContent;
  readonly bounds: ByteRange;
  /** Sends the head. */
  readonly promise: () => void;
}

/** False, and nothing is promised, when the first bytes cannot be had. */
async function sendRange(
  response: ServerResponse,
  { content, bounds, promise }: PromisedRange,
): Promise<boolean> {
  const { start, end } = bounds;
  if (content.isStored === true)
    return await sendRepeatable(
      response,
      async (at) => await content.start({ start: start + at, end }, 'lent'),
      promise,
    );
  if (!(await whenNext(response))) return true;
  const body = await content.start(bounds, 'lent');
  if (body === undefined) return false;
  promise();
  await sendBody(response, body);
  return true;
}

/** A resumed download must continue the same bytes: with `If-Range`, a range counts only for the tag it names. */
function wantedRange(request: IncomingMessage, etag: string, length: number): RangeRequest {
  const ifRange = request.headers['if-range'];
  return ifRange === undefined || ifRange === etag
    ? parseRange(request.headers.range, length)
    : { kind: 'whole' };
}

function sendText({ request, response }: CacheReadRequest, text: string, headers: OutgoingHttpHeaders): void {
  if (headers['etag'] !== undefined && request.headers['if-none-match'] === headers['etag'])
    return void response.writeHead(304, headers).end();
  const bytes = Buffer.byteLength(text);
  response.writeHead(200, { ...headers, 'content-length': bytes });
  if (request.method === 'HEAD') response.end();
  else endWithText(response, text, bytes);
}

function caching(cache: Cache, seconds: number): string {
  return `${cache.isPublic ? 'public' : 'private'}, max-age=${seconds}`;
}

function absent(): SlipwayError {
  return new SlipwayError('not_found', 'Not in this cache.');
}
