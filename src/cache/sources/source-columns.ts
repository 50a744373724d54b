// The settings of a cache that say where it finds paths beside what it holds, as columns of its row: JSON, checked on
// both ways.
import { createHash } from 'node:crypto';
import type { Selectable, Updateable } from 'kysely';
import { formatIssue } from '../../api/issue-text.ts';
import {
  localStoreConfig,
  upstreamList,
  type LocalStoreConfig,
  type UpstreamConfig,
} from '../../api/source-config.ts';
import type { CacheTable } from '../../storage/cache-tables.ts';
import { SlipwayError } from '../../util/errors.ts';

export interface SourceSettings {
  readonly borrowedBytes: number | undefined;
  readonly upstreams: readonly UpstreamConfig[];
  readonly localStore: LocalStoreConfig | undefined;
}

/** A setting that is there but `undefined` is taken back to the default. */
export function sourceColumns(changes: Partial<SourceSettings>): Updateable<CacheTable> {
  return {
    ...('borrowedBytes' in changes && { borrowed_bytes: changes.borrowedBytes ?? null }),
    ...('upstreams' in changes && { upstreams: JSON.stringify(changes.upstreams ?? []) }),
    ...('localStore' in changes && {
      local_store: changes.localStore === undefined ? null : JSON.stringify(changes.localStore),
    }),
  };
}

/** Throws `invalid`. */
export function checkSources({ upstreams, localStore }: Partial<SourceSettings>): void {
  const checked = [
    upstreamList.safeParse(upstreams ?? []),
    localStore === undefined ? undefined : localStoreConfig.safeParse(localStore),
  ];
  for (const result of checked)
    if (result?.success === false)
      throw new SlipwayError('invalid', `This source does not fit: ${formatIssue(result.error.issues[0])}.`);
}

/** Short, and another one whenever the sources are other ones. */
export function sourcesKey(row: Pick<Selectable<CacheTable>, 'upstreams' | 'local_store'>): string {
  if (row.upstreams === '[]' && row.local_store === null) return '';
  return createHash('sha256')
    .update(`${row.upstreams}\n${row.local_store ?? ''}`)
    .digest('base64url')
    .slice(0, 16);
}

/** What a newer version wrote and this one does not know counts as no upstream: it cannot be trusted by half. */
export function parseUpstreams(text: string): readonly UpstreamConfig[] {
  if (text === '[]') return [];
  const parsed = upstreamList.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : [];
}

export function parseLocalStore(text: string | null): LocalStoreConfig | undefined {
  if (text === null) return undefined;
  const parsed = localStoreConfig.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : undefined;
}
