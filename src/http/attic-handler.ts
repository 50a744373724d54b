// The Attic API below `/_api/v1/`, and `/{cache}/attic-cache-info`: which request is which.
import type { IncomingMessage } from 'node:http';
import { isCacheName } from '../cache/cache-registry.ts';
import { asSlipwayError } from '../util/errors.ts';
import { configureCache, createCache, destroyCache, sendCacheConfig } from './attic-config.ts';
import { answerAtticFailure, atticError, plainFailure } from './attic-failure.ts';
import { sendMissingPaths, takePath } from './attic-paths.ts';
import type { AtticParts } from './attic-request.ts';
import type { Exchange } from './cache-request.ts';

export type AtticUrl =
  | { readonly kind: 'config'; readonly name: string }
  | { readonly kind: 'cache-info'; readonly name: string }
  | { readonly kind: 'missing-paths' | 'upload-path' | 'unknown' };

const METHODS = {
  config: ['GET', 'POST', 'PATCH', 'DELETE'],
  'cache-info': ['GET'],
  'missing-paths': ['POST'],
  'upload-path': ['PUT'],
  unknown: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
} as const;

/** `undefined` for URLs that are not Attic's. */
export function parseAtticUrl(url: string): AtticUrl | undefined {
  const path = url.split('?', 1)[0] ?? '';
  const info = /^\/([^/]+)\/attic-cache-info$/.exec(path)?.[1];
  if (info !== undefined) return { kind: 'cache-info', name: info };
  if (!path.startsWith('/_api/')) return undefined;
  if (path === '/_api/v1/get-missing-paths') return { kind: 'missing-paths' };
  if (path === '/_api/v1/upload-path') return { kind: 'upload-path' };
  const name = /^\/_api\/v1\/cache-config\/([^/]+)$/.exec(path)?.[1];
  return name === undefined ? { kind: 'unknown' } : { kind: 'config', name };
}

export async function handleAttic(parts: AtticParts, url: AtticUrl, exchange: Exchange): Promise<void> {
  const { request } = exchange;
  request.socket.setTimeout(0); // uploads have their own limits on stalls
  try {
    checkMethod(url.kind, request);
    await dispatch(parts, url, exchange);
  } catch (thrown) {
    const error = asSlipwayError(thrown);
    if (error.code === 'internal' || error.code === 'unavailable') parts.onError(thrown);
    answerAtticFailure(exchange, error);
  }
}

async function dispatch(parts: AtticParts, url: AtticUrl, exchange: Exchange): Promise<void> {
  switch (url.kind) {
    case 'missing-paths':
      return await sendMissingPaths(parts, exchange);
    case 'upload-path':
      return await takePath(parts, exchange);
    case 'cache-info':
      return await sendCacheConfig(parts, exchange, checkedName(url.name));
    case 'config':
      return await dispatchConfig(parts, checkedName(url.name), exchange);
    case 'unknown':
      throw atticError('NotFound');
  }
}

async function dispatchConfig(parts: AtticParts, name: string, exchange: Exchange): Promise<void> {
  switch (exchange.request.method) {
    case 'POST':
      return await createCache(parts, exchange, name);
    case 'PATCH':
      return await configureCache(parts, exchange, name);
    case 'DELETE':
      return await destroyCache(parts, exchange, name);
    default:
      return await sendCacheConfig(parts, exchange, name);
  }
}

function checkMethod(kind: AtticUrl['kind'], { method = '' }: IncomingMessage): void {
  const allowed: readonly string[] = METHODS[kind];
  if (allowed.includes(method) || (method === 'HEAD' && allowed.includes('GET'))) return;
  const shown = allowed.flatMap((one) => (one === 'GET' ? ['GET', 'HEAD'] : [one]));
  throw plainFailure(405, '', shown.join(','));
}

function checkedName(text: string): string {
  if (isCacheName(text) && !text.includes('~')) return text;
  throw plainFailure(400, `Invalid URL: Invalid cache name "${text.slice(0, 100)}"`);
}
