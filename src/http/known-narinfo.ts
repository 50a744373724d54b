// The quick way for what nearly all requests ask: a narinfo of a public cache, without credentials, that memory knows of,
// be it present or absent. No promise, no header object, one string to the kernel. All else goes through cache-read.ts,
// and gets the same answers there.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { BinaryCache } from '../cache/binary-cache.ts';
import type { RenderedNarInfo } from '../cache/rendered-narinfo.ts';
import { endWithText } from './send-body.ts';

const ENDING = '.narinfo';
const HASH_CHARACTERS = 32;
const ABSENT = 'Not in this cache.\n';
const PUBLIC_HEADERS: readonly string[] = ['x-attic-cache-visibility', 'public'];
const ABSENT_HEADERS = [
  PUBLIC_HEADERS,
  ['content-type', 'text/plain; charset=utf-8'],
  ['content-length', String(ABSENT.length)],
  ['cache-control', 'no-store'],
  ['x-content-type-options', 'nosniff'],
].flat();
const PRESENT_HEADERS = [
  PUBLIC_HEADERS,
  ['content-type', 'text/x-nix-narinfo'],
  ['cache-control', 'public, max-age=3600'],
].flat();

/** False, with nothing done, when the request needs more than memory. */
export function sendKnownNarInfo(
  binaryCache: BinaryCache,
  request: IncomingMessage,
  response: ServerResponse,
): boolean {
  const url = request.url ?? '';
  const slash = url.indexOf('/', 1);
  if (url.length !== slash + 1 + HASH_CHARACTERS + ENDING.length || !url.endsWith(ENDING)) return false;
  if (!isPlain(request)) return false;
  const cache = binaryCache.caches.findKnown(url.slice(1, slash));
  if (cache?.isPublic !== true || cache.name.includes('~')) return false;
  const known = binaryCache.findKnownNarInfo(cache, url.slice(slash + 1, -ENDING.length));
  if (known === undefined) return false;
  binaryCache.lookups.note(cache.id, known !== 'absent');
  if (known === 'absent') response.writeHead(404, ABSENT_HEADERS).end(ABSENT, 'latin1');
  else sendPresent(response, known);
  return true;
}

/** Headers that ask for more than the narinfo. Found in the raw ones: making an object of all is slower than all else here. */
const TELLING = ['authorization', 'if-none-match', 'content-length', 'transfer-encoding'];
const TELLING_LENGTHS = new Set(TELLING.map((name) => name.length));

function isPlain({ method, rawHeaders }: IncomingMessage): boolean {
  if (method !== 'GET') return false;
  for (let n = 0; n < rawHeaders.length; n += 2) {
    const name = rawHeaders[n] ?? '';
    if (TELLING_LENGTHS.has(name.length) && TELLING.includes(name.toLowerCase())) return false;
  }
  return true;
}

function sendPresent(response: ServerResponse, { text, bytes, etag }: RenderedNarInfo): void {
  const headers = [...PRESENT_HEADERS, 'etag', etag, 'content-length', String(bytes)];
  endWithText(response.writeHead(200, headers), text, bytes);
}
