// Where closures go: what the flake names (`slipway:<cache>` or a store URL) joined with what the run was given.
import type { ReleaseManifest } from '../api/manifest.ts';
import { SlipwayError } from '../util/errors.ts';

export interface CacheSetting {
  /** Store URL as Nix spells it; http(s) ones are pushed to by Slipway's own client, others by `nix copy`. */
  readonly url: string;
  /** Reads the write token anew for each push. */
  readonly readToken?: () => Promise<string>;
  /** `name:base64` keys that sign what the cache serves; they go into the manifest. */
  readonly publicKeys: readonly string[];
}

/** One setting a cache, in the flake's order, then what only the run names. */
export function planCaches(
  named: readonly string[],
  given: readonly CacheSetting[],
  serverUrl: string | undefined,
): CacheSetting[] {
  const fromFlake = named.map((name) => resolveCache(name, given, serverUrl));
  const all = [...fromFlake, ...given].map((cache) => [trimUrl(cache.url), cache] as const);
  return [...new Map(all.toReversed()).values()].toReversed();
}

/** As hosts may see them: without the parameters that name a writer's key or profile. */
export function manifestCaches(caches: readonly CacheSetting[]): { url: string; publicKeys: string[] }[] {
  return caches.map(({ url, publicKeys }) => ({
    url: url.replace(/\?.*$/, ''),
    publicKeys: [...publicKeys],
  }));
}

/** Whether a cache (or a key of one) came that the release does not name: hosts are to learn of it, and to find all there. */
export function hasNewCache(
  release: Pick<ReleaseManifest, 'caches'>,
  caches: readonly CacheSetting[],
): boolean {
  const known = new Set(release.caches.map((cache) => JSON.stringify([cache.url, cache.publicKeys])));
  return manifestCaches(caches).some((cache) => !known.has(JSON.stringify([cache.url, cache.publicKeys])));
}

function resolveCache(
  name: string,
  given: readonly CacheSetting[],
  serverUrl: string | undefined,
): CacheSetting {
  const slipway = /^slipway:([a-z0-9][a-z0-9_-]*)$/i.exec(name)?.[1];
  const url = slipway === undefined ? name : slipwayUrl(slipway, given, serverUrl);
  return given.find((cache) => trimUrl(cache.url) === trimUrl(url)) ?? { url, publicKeys: [] };
}

function slipwayUrl(cache: string, given: readonly CacheSetting[], serverUrl: string | undefined): string {
  if (serverUrl !== undefined) return `${trimUrl(serverUrl)}/${cache}`;
  const match = given.find(({ url }) => trimUrl(url).endsWith(`/${cache}`));
  if (match) return match.url;
  throw new SlipwayError('invalid', `The flake names the cache slipway:${cache}, but not where it is.`, {
    next: `Give its address: --cache https://<server>/${cache}`,
    facts: { cache },
  });
}

function trimUrl(url: string): string {
  return url.replace(/\/+$/, '');
}
