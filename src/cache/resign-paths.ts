// Signs what is published anew after the keys of a cache have changed: narinfos are rendered when they are written, so
// a new key has to be brought into them, and signatures of a retired one taken out.
import { fingerprint, formatNarInfo, parseNarInfo } from '../nix/narinfo.ts';
import { signText, type SecretKey } from '../nix/signature.ts';
import type { Database } from '../storage/database.ts';
import type { Cache } from './cache-registry.ts';
import { UPSTREAM_WRITER } from './writer.ts';
import { mergeSignatures } from './path-rows.ts';

const PATHS_A_BATCH = 200; // some 20 ms of signing, then others may write

export interface KeyChange {
  readonly keys: readonly SecretKey[];
  /** Names of keys whose signatures go. */
  readonly retired: readonly string[];
}

/** Returns how many paths were signed. Safe to run again after it was interrupted. */
export async function resignPaths(database: Database, cache: Cache, change: KeyChange): Promise<number> {
  let count = 0;
  let after = '';
  for (;;) {
    const rows = await database.read
      .selectFrom('store_path')
      .select(['hash', 'narinfo', 'writer'])
      .where('cache_id', '=', cache.id)
      .where('hash', '>', after)
      .orderBy('hash')
      .limit(PATHS_A_BATCH)
      .execute();
    if (rows.length === 0) break;
    const signed = rows.map((row) => ({
      hash: row.hash,
      before: row.narinfo,
      narinfo: resign(row, cache, change),
    }));
    await database.write(async (transaction) => {
      for (const { hash, before, narinfo } of signed)
        await transaction
          .updateTable('store_path')
          .set({ narinfo })
          .where('cache_id', '=', cache.id)
          .where('hash', '=', hash)
          .where('narinfo', '=', before)
          .execute();
    });
    count += rows.length;
    after = rows.at(-1)?.hash ?? '';
  }
  await endEpoch(database, cache);
  return count;
}

/** From now on no server serves a narinfo that it rendered before. */
export async function endEpoch(database: Database, cache: Pick<Cache, 'id'>): Promise<void> {
  await database.write(
    async (transaction) =>
      await transaction
        .updateTable('cache')
        .set((builder) => ({ epoch: builder('epoch', '+', 1) }))
        .where('id', '=', cache.id)
        .execute(),
  );
}

function resign(
  row: { readonly narinfo: string; readonly writer: string },
  cache: Cache,
  { keys, retired }: KeyChange,
): string {
  const info = parseNarInfo(row.narinfo, cache.storeDir);
  const names = new Set([...retired, ...keys.map((key) => key.name)]);
  const signedHere = info.signatures.some((signature) => names.has(signature.split(':', 1)[0] ?? ''));
  // The cache never vouched for what it only fetched, and does not begin to when its keys change.
  if (row.writer.startsWith(UPSTREAM_WRITER) && !signedHere) return row.narinfo;
  const foreign = info.signatures.filter((signature) => !names.has(signature.split(':', 1)[0] ?? ''));
  const message = fingerprint(info);
  const own = keys.map((key) => signText(key, message));
  return formatNarInfo({ ...info, signatures: mergeSignatures(foreign, own) });
}
