// What all requests of the Attic API share: who may make them, how their JSON is read and answered.
// Like Attic: whoever has no permission on a cache at all hears 401 whether it exists or not; whoever has some, 403.
import type { IncomingMessage } from 'node:http';
import type * as z from 'zod/mini';
import { formatIssue } from '../api/issue-text.ts';
import { mayDiscover, type Caller } from '../auth/caller.ts';
import type { Cache } from '../cache/cache-registry.ts';
import { atticError, plainFailure } from './attic-failure.ts';
import type { AccessParts } from './cache-access.ts';
import type { Exchange } from './cache-request.ts';
import { readUpload } from './upload-body.ts';

/** Lists and objects of a request, which has a handful. Parsing millions of them stops everything else for seconds. */
const MOST_OPENED = 1_000;

export interface AtticParts extends AccessParts {
  readonly maxNarSize: number;
  readonly publicUrl?: string;
  readonly onError: (error: unknown) => void;
}

export interface AdmittedToCache {
  readonly cache: Cache;
  readonly caller: Caller | undefined;
}

/** The cache, for a caller that `isAllowed`; the permission is decided before the answer tells whether it exists. */
export async function admitToCache(
  { cache: { caches }, tokens }: AccessParts,
  request: IncomingMessage,
  name: string,
  isAllowed: (caller: Caller | undefined, cache: Cache) => boolean,
): Promise<AdmittedToCache> {
  const caller = await tokens.findCaller(request.headers.authorization);
  const discovers = mayDiscover(caller, name);
  const cache = await caches.find(name);
  if (cache === undefined) throw atticError(discovers ? 'NoSuchCache' : 'Unauthorized');
  if (isAllowed(caller, cache)) return { cache, caller };
  throw atticError(discovers || cache.isPublic ? 'AccessError' : 'Unauthorized');
}

/** The JSON body as `schema` wants it, of at most `limit` bytes. */
export async function readAtticJson<S extends z.ZodMiniType>(
  exchange: Exchange,
  schema: S,
  limit: number,
): Promise<z.infer<S>> {
  if (!/^application\/(\S+\+)?json\b/i.test(exchange.request.headers['content-type'] ?? ''))
    throw plainFailure(415, 'Expected request with `Content-Type: application/json`');
  const pieces: Buffer[] = [];
  for await (const piece of readUpload(exchange, limit)) pieces.push(piece);
  const parsed = schema.safeParse(parseJson(Buffer.concat(pieces)));
  if (parsed.success) return parsed.data;
  throw plainFailure(
    422,
    `Failed to deserialize the JSON body into the target type: ${formatIssue(parsed.error.issues[0])}`,
  );
}

export function sendJson({ request, response }: Exchange, value: unknown): void {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(request.method === 'HEAD' ? undefined : body);
}

export function sendNothing({ response }: Exchange): void {
  response.writeHead(200, { 'content-length': 0 }).end();
}

/** Counted up to what is too many. */
function opens(body: Buffer, bracket: string): number {
  let count = 0;
  for (let at = body.indexOf(bracket); at >= 0 && count <= MOST_OPENED; at = body.indexOf(bracket, at + 1))
    count++;
  return count;
}

function parseJson(body: Buffer): unknown {
  if (opens(body, '[') + opens(body, '{') > MOST_OPENED)
    throw plainFailure(400, 'Failed to parse the request body as JSON: it has too many lists and objects.');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw plainFailure(400, 'Failed to parse the request body as JSON: it is not JSON.');
  }
}
