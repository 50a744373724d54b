// The cache's data plane on raw node:http: the Nix binary cache protocol, reading and writing.
// Permission is decided before anything is looked up, so a private cache cannot be told from one that does not exist.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TokenRegistry } from '../auth/token-registry.ts';
import { mayRead, mayWrite, type Caller } from '../auth/caller.ts';
import type { BinaryCache } from '../cache/binary-cache.ts';
import type { Cache } from '../cache/cache-registry.ts';
import { SlipwayError, asSlipwayError } from '../util/errors.ts';
import { answerCacheFailure } from './cache-failure.ts';
import { readFromCache } from './cache-read.ts';
import { parseCacheUrl } from './cache-route.ts';
import { writeToCache } from './cache-write.ts';

export interface CacheHandlerOptions {
  readonly cache: BinaryCache;
  readonly tokens: TokenRegistry;
  /** Where failures of ours go: the client hears only that something failed. */
  readonly onError: (error: unknown) => void;
  /** Most bytes of one NAR, decompressed. Default 256 GiB. */
  readonly maxNarSize?: number;
}

const MAX_NAR_SIZE = 256 * 2 ** 30;

/**
 * Answers requests below `/{cache}/` and says true; says false, touching nothing, for URLs that are not a cache's.
 * Attach the same listener to 'request' and to 'checkContinue': uploads are then refused before their body is sent.
 */
export function createCacheHandler(
  options: CacheHandlerOptions,
): (request: IncomingMessage, response: ServerResponse) => Promise<boolean> {
  const maxNarSize = options.maxNarSize ?? MAX_NAR_SIZE;
  return async (request, response) => {
    const url = parseCacheUrl(request.url ?? '');
    if (url === undefined) return false;
    request.socket.setTimeout(0); // transfers have their own limits on stalls; the API's idle limit is not theirs
    try {
      const method = methodOf(request);
      const { cache, caller } = await admit(options, request, url.cacheName);
      const admitted = { cache, caller, route: url.route, request, response };
      if (method === 'PUT') await writeToCache(options.cache, admitted, maxNarSize);
      else await readFromCache(options.cache, admitted);
    } catch (thrown) {
      const error = asSlipwayError(thrown);
      if (error.code === 'internal' || error.code === 'unavailable') options.onError(thrown);
      answerCacheFailure(request, response, error);
    }
    return true;
  };
}

function methodOf(request: IncomingMessage): 'GET' | 'HEAD' | 'PUT' {
  const { method } = request;
  if (method === 'GET' || method === 'HEAD' || method === 'PUT') return method;
  throw new SlipwayError('invalid', `A cache does not know the method ${method ?? ''}.`);
}

/** Public caches are read without looking at credentials: a stale netrc line must not lock anybody out. */
async function admit(
  { cache: binaryCache, tokens }: CacheHandlerOptions,
  request: IncomingMessage,
  name: string,
): Promise<{ readonly cache: Cache; readonly caller: Caller | undefined }> {
  const writing = request.method === 'PUT';
  const cache = await binaryCache.caches.find(name);
  const authorization = request.headers.authorization;
  const readable = cache?.isPublic === true;
  if (cache && readable && authorization === undefined && !writing) return { cache, caller: undefined };
  const caller = await tokens.findCaller(authorization);
  if (!readable && !mayRead(caller, name)) throw unauthorized();
  if (writing && !mayWrite(caller, name)) throw caller === undefined ? unauthorized() : readOnly(name);
  if (cache === undefined) throw new SlipwayError('not_found', `There is no cache named ${name}.`);
  return { cache, caller };
}

function unauthorized(): SlipwayError {
  return new SlipwayError('unauthorized', 'This needs a valid token with access to the cache.', {
    next: 'Put the token as password into the netrc file that nix.conf names, or see "slipway token create".',
  });
}

function readOnly(name: string): SlipwayError {
  return new SlipwayError('forbidden', `This token may read the cache ${name}, not write to it.`, {
    next: `Make one that may: slipway token create --write ${name} <name>`,
  });
}
