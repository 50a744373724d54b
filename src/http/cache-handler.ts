// The cache's data plane on raw node:http: the Nix binary cache protocol, reading and writing.
// Permission is decided before anything is looked up, so a private cache cannot be told from one that does not exist.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { CallerFinder } from '../auth/caller.ts';
import type { BinaryCache } from '../cache/binary-cache.ts';
import { SlipwayError, asSlipwayError } from '../util/errors.ts';
import { handleAttic, parseAtticUrl } from './attic-handler.ts';
import { admitReader, admitWriter } from './cache-access.ts';
import { answerCacheFailure } from './cache-failure.ts';
import { readFromCache } from './cache-read.ts';
import { parseCacheUrl } from './cache-route.ts';
import { writeToCache } from './cache-write.ts';
import { sendKnownNarInfo } from './known-narinfo.ts';
import type { CacheHandler } from './server.ts';

export interface CacheHandlerOptions {
  readonly cache: BinaryCache;
  readonly tokens: CallerFinder;
  /** Where failures of ours go: the client hears only that something failed. */
  readonly onError: (error: unknown) => void;
  /** Most bytes of one NAR, decompressed. Default 256 GiB. */
  readonly maxNarSize?: number;
  /** How clients reach this server, such as `https://cache.example.org`; by default what they say in `Host`. */
  readonly publicUrl?: string;
}

const MAX_NAR_SIZE = 256 * 2 ** 30;

/**
 * Answers requests below `/{cache}/` and says true; says false, touching nothing, for URLs that are not a cache's.
 * Attach the same listener to 'request' and to 'checkContinue': uploads are then refused before their body is sent.
 */
export function createCacheHandler(options: CacheHandlerOptions): CacheHandler {
  const maxNarSize = options.maxNarSize ?? MAX_NAR_SIZE;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<boolean> => {
    const atticUrl = parseAtticUrl(request.url ?? '');
    if (atticUrl !== undefined) {
      await handleAttic({ ...options, maxNarSize }, atticUrl, { request, response });
      return true;
    }
    const url = parseCacheUrl(request.url ?? '');
    if (url === undefined) return false;
    request.socket.setTimeout(0); // transfers have their own limits on stalls; the API's idle limit is not theirs
    try {
      const incoming = { route: url.route, request, response };
      if (methodOf(request) === 'PUT') {
        const access = await admitWriter(options, request, url.cacheName);
        await writeToCache(options.cache, { ...access, ...incoming }, maxNarSize);
      } else {
        const access = await admitReader(options, request, url.cacheName);
        if (access.cache.isPublic) response.setHeader('x-attic-cache-visibility', 'public');
        await readFromCache(options.cache, { ...access, ...incoming });
      }
    } catch (thrown) {
      const error = asSlipwayError(thrown);
      if (error.code === 'internal' || error.code === 'unavailable') options.onError(thrown);
      answerCacheFailure(request, response, error);
    }
    return true;
  };
  return (request, response) =>
    sendKnownNarInfo(options.cache, request, response) || answer(request, response);
}

function methodOf(request: IncomingMessage): 'GET' | 'HEAD' | 'PUT' {
  const { method } = request;
  if (method === 'GET' || method === 'HEAD' || method === 'PUT') return method;
  throw new SlipwayError('invalid', `A cache does not know the method ${method ?? ''}.`);
}
