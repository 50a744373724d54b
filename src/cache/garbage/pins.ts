// Pins: paths that stay in every cache of the server, with all that they reference, until they are unpinned.
import { storePathHash, type StorePath } from '../../nix/store-path.ts';
import type { Database } from '../../storage/database.ts';
import { SlipwayError } from '../../util/errors.ts';

export interface Pin {
  readonly name: string;
  readonly paths: readonly string[];
  readonly createdAt: number;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$/;

/** Adds paths to a pin, making it when there is none. A path that no cache holds yet may be pinned. */
export async function addPin(database: Database, name: string, paths: readonly StorePath[]): Promise<void> {
  if (!NAME.test(name))
    throw new SlipwayError('invalid', `"${name}" cannot be the name of a pin.`, {
      next: 'Use up to 100 letters, digits, ".", "_", "-" and "/".',
    });
  const created_at = Date.now();
  const rows = paths.map((path) => ({ name, hash: storePathHash(path), store_path: path, created_at }));
  await database.write(
    async (transaction) =>
      await transaction
        .insertInto('pin')
        .values(rows)
        .onConflict((conflict) => conflict.doNothing())
        .execute(),
  );
}

/** Takes paths off a pin, or the whole pin; `not_found` when that changes nothing. */
export async function removePin(
  database: Database,
  name: string,
  paths: readonly StorePath[],
): Promise<number> {
  const removed = await database.write(async (transaction) => {
    const query = transaction.deleteFrom('pin').where('name', '=', name);
    const chosen = paths.length === 0 ? query : query.where('hash', 'in', paths.map(storePathHash));
    return await chosen.executeTakeFirst();
  });
  if (removed.numDeletedRows > 0) return Number(removed.numDeletedRows);
  throw new SlipwayError('not_found', `There is no such pin: ${[name, ...paths].join(' ')}.`, {
    next: 'See "slipway pins".',
  });
}

export async function listPins(database: Database): Promise<Pin[]> {
  const rows = await database.read
    .selectFrom('pin')
    .selectAll()
    .orderBy('name')
    .orderBy('store_path')
    .execute();
  return [...Map.groupBy(rows, (row) => row.name)].map(([name, members]) => ({
    name,
    paths: members.map((row) => row.store_path),
    createdAt: Math.min(...members.map((row) => row.created_at)),
  }));
}
