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
import type { Exchange, UploadPace } from './cache-request.ts';
import { parseCacheUrl, type CacheUrl } from './cache-route.ts';
import { drainRequest } from './drain-request.ts';
import { writeToCache } from './cache-write.ts';
import { DEFAULT_PACE } from './upload-body.ts';
import { handleUpload, parseUploadUrl } from './upload-handler.ts';
import { sendKnownNarInfo } from './known-narinfo.ts';
import type { CacheHandler } from './server.ts';

export interface CacheHandlerOptions {
  readonly cache: BinaryCache;
  readonly tokens: CallerFinder;
  /** Where failures of ours go: the client hears only that something failed. */
  readonly onError: (error: unknown) => void;
  /** Most bytes of one NAR, decompressed. Default 256 GiB. */
  readonly maxNarSize?: number;
  /** How slowly uploads may come. Default: a minute without a byte, 1 KiB a second on average. */
  readonly pace?: UploadPace;
  /** How clients reach this server, such as `https://cache.example.org`; by default what they say in `Host`. */
  readonly publicUrl?: string;
}

const MAX_NAR_SIZE = 256 * 2 ** 30;

/**
 * Answers requests below `/{cache}/` and says true; says false, touching nothing, for URLs that are not a cache's.
 * Attach the same listener to 'request' and to 'checkContinue': uploads are then refused before their body is sent.
 */
export function createCacheHandler(options: CacheHandlerOptions): CacheHandler {
  const parts = { ...options, maxNarSize: options.maxNarSize ?? MAX_NAR_SIZE };
  const pace = options.pace ?? DEFAULT_PACE;
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<boolean> => {
    const answered = dispatch(parts, { request, response, pace });
    if (answered === undefined) return false;
    await answered;
    if (!request.complete) drainRequest(request);
    return true;
  };
  return (request, response) =>
    sendKnownNarInfo(options.cache, request, response) || answer(request, response);
}

type HandlerParts = CacheHandlerOptions & { readonly maxNarSize: number };

/** `undefined` when the URL is not a cache's. */
function dispatch(parts: HandlerParts, exchange: Exchange): Promise<void> | undefined {
  const url = exchange.request.url ?? '';
  const uploadUrl = parseUploadUrl(url);
  if (uploadUrl !== undefined) return handleUpload(parts, uploadUrl, exchange);
  const atticUrl = parseAtticUrl(url);
  if (atticUrl !== undefined) return handleAttic(parts, atticUrl, exchange);
  const cacheUrl = parseCacheUrl(url);
  return cacheUrl && answerCache(parts, cacheUrl, exchange);
}

async function answerCache(
  parts: HandlerParts,
  { cacheName, route }: CacheUrl,
  exchange: Exchange,
): Promise<void> {
  const { request, response } = exchange;
  request.socket.setTimeout(0); // transfers have their own limits on stalls; the API's idle limit is not theirs
  try {
    const incoming = { route, ...exchange };
    if (methodOf(request) === 'PUT') {
      const access = await admitWriter(parts, request, cacheName);
      await writeToCache(parts.cache, { ...access, ...incoming }, parts.maxNarSize);
    } else {
      const access = await admitReader(parts, request, cacheName);
      if (access.cache.isPublic) response.setHeader('x-attic-cache-visibility', 'public');
      await readFromCache(parts.cache, { ...access, ...incoming });
    }
  } catch (thrown) {
    const error = asSlipwayError(thrown);
    if (error.code === 'internal' || error.code === 'unavailable') parts.onError(thrown);
    answerCacheFailure(request, response, error);
  }
}

function methodOf(request: IncomingMessage): 'GET' | 'HEAD' | 'PUT' {
  const { method } = request;
  if (method === 'GET' || method === 'HEAD' || method === 'PUT') return method;
  throw new SlipwayError('invalid', `A cache does not know the method ${method ?? ''}.`);
}
