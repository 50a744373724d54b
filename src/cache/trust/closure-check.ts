// Whether all that a path references is there already: a cache with complete closures takes it only then.
import { storePathHash, type StorePath } from '../../nix/store-path.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { Kysely } from 'kysely';
import type { Schema } from '../../storage/schema.ts';
import type { Cache } from '../cache-registry.ts';

const REFERENCES_A_QUERY = 500;

/** The first reference that none of the caches holds; the path itself does not count. */
export async function findMissingReference(
  db: Kysely<Schema>,
  caches: readonly Cache[],
  info: NarInfo,
): Promise<StorePath | undefined> {
  const wanted = [...new Set(info.references)].filter((reference) => reference !== info.storePath);
  const ids = caches.map(({ id }) => id);
  for (let from = 0; from < wanted.length; from += REFERENCES_A_QUERY) {
    const batch = wanted.slice(from, from + REFERENCES_A_QUERY);
    const rows = await db
      .selectFrom('store_path')
      .select('store_path')
      .where('cache_id', 'in', ids)
      .where('hash', 'in', batch.map(storePathHash))
      .where('quarantined_at', 'is', null)
      .execute();
    const held = new Set(rows.map((row) => row.store_path));
    const missing = batch.find((reference) => !held.has(reference));
    if (missing !== undefined) return missing;
  }
  return undefined;
}
