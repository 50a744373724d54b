// Which part of a cache a URL names: `/{cache}/nix-cache-info`, `/{cache}/<hash>.narinfo`, `/{cache}/nar/<file>`, and the
// side files of Nix's HTTP protocol (binary-cache-store.cc).
import { isCacheName } from '../cache/cache-registry.ts';

export type CacheRoute =
  | { readonly kind: 'cache-info' }
  | { readonly kind: 'narinfo'; readonly hash: string }
  | { readonly kind: 'nar'; readonly fileName: string }
  | { readonly kind: 'other'; readonly name: string };

export interface CacheUrl {
  readonly cacheName: string;
  readonly route: CacheRoute;
}

const NARINFO = /^([0-9abcdfghijklmnpqrsvwxyz]{32})\.narinfo$/;

/** `undefined` when the URL cannot be one of a cache. A query is ignored. */
export function parseCacheUrl(url: string): CacheUrl | undefined {
  const path = url.split('?', 1)[0] ?? '';
  const slash = path.indexOf('/', 1);
  const cacheName = path.slice(1, slash);
  if (slash === -1 || slash === path.length - 1 || !isCacheName(cacheName)) return undefined;
  return { cacheName, route: parseRoute(path.slice(slash + 1)) };
}

function parseRoute(rest: string): CacheRoute {
  if (rest === 'nix-cache-info') return { kind: 'cache-info' };
  const [, hash] = NARINFO.exec(rest) ?? [];
  if (hash !== undefined) return { kind: 'narinfo', hash };
  if (/^nar\/[^/]+$/.test(rest)) return { kind: 'nar', fileName: rest.slice(4) };
  return { kind: 'other', name: decoded(rest) };
}

/** Names of realisations hold `:` and `!`, which some clients encode. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
