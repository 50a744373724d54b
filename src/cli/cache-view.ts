// What `slipway cache info` and `list` show of a cache: its settings, keys and figures.
import type { Cache, CacheSettings } from '../cache/cache-registry.ts';
import { readStatistics, type CacheStatistics } from '../cache/cache-statistics.ts';
import { publicKeyOf } from '../nix/signature.ts';
import type { CliIo } from './cli-io.ts';
import type { OpenData } from './data-directory.ts';
import { formatBytes, formatTable, makeStyle } from './style.ts';

export interface CacheView extends CacheStatistics, Omit<CacheSettings, 'isPublic'> {
  readonly public: boolean;
  readonly publicKeys: readonly string[];
}

export async function viewOf(data: OpenData, cache: Cache): Promise<CacheView> {
  const { id: _i, createdAt: _c, epoch: _e, baseId: _b, sourcesKey: _s, isPublic, ...settings } = cache;
  return {
    ...settings,
    public: isPublic,
    publicKeys: (await data.keys.get(cache.name)).map(publicKeyOf),
    ...(await readStatistics(data.database, cache)),
  };
}

export function renderView(io: CliIo, view: CacheView): string {
  const style = makeStyle(io.color);
  const rows: [string, string][] = [
    ['cache', style.bold(view.name)],
    ['reading', view.public ? 'everybody' : 'tokens only'],
    ['priority', String(view.priority)],
    ['store', view.storeDir],
    ['closures', view.closed ? 'complete' : 'may refer to other caches'],
    ...view.publicKeys.map((key): [string, string] => ['public key', style.accent(key)]),
    ...ruleRows(view),
    ...sourceRows(view),
    ['paths', String(view.paths)],
    ['contents', formatBytes(view.narBytes)],
    ['on disk', `${formatBytes(view.packBytes)} (all caches of this server)`],
    ['conflicts', String(view.conflicts)],
  ];
  return formatTable(rows.map(([name, value]) => [style.dim(name), value]));
}

/** Settings that say something; the others are as everybody expects. */
function ruleRows({
  acceptedKeys,
  upstreamKeys,
  agreement,
  retentionMs,
  quotaBytes,
}: CacheView): [string, string][] {
  const kept = retentionMs === undefined ? 'as the server does' : 'for ever';
  return [
    ['kept unused', retentionMs ? `${Math.round(retentionMs / 8_640_000) / 10} days` : kept],
    ['room', quotaBytes === undefined ? 'no limit' : formatBytes(quotaBytes)],
    ...acceptedKeys.map((key): [string, string] => ['accepts', key]),
    ...(agreement > 0 ? [['agreement', `of ${agreement} contributors`] as [string, string]] : []),
    ...(upstreamKeys.length > 0
      ? [['not pushed', `signed by ${upstreamKeys.join(', ')}`] as [string, string]]
      : []),
  ];
}

function sourceRows({ upstreams, localStore, borrowedBytes }: CacheView): [string, string][] {
  const limit = borrowedBytes === undefined ? 'no limit' : `at most ${formatBytes(borrowedBytes)}`;
  return [
    ...upstreams.map(({ url }): [string, string] => ['upstream', url]),
    ...(upstreams.length > 0 ? [['kept of them', limit] as [string, string]] : []),
    ...(localStore ? [['local store', localStore.root] as [string, string]] : []),
  ];
}
