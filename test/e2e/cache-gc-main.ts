// Collects garbage as a process of its own, to be killed by a test: pins every path whose name ends in `-0`, makes the
// others old, and collects in a loop with graces of nothing but the moment. Usage: cache-gc-main.ts DATA. Prints one line.
import { join } from 'node:path';
import { collectGarbage, DEFAULT_GARBAGE_SETTINGS } from '../../src/cache/collect-garbage.ts';
import { addPin } from '../../src/cache/pins.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { openDiskBlobStore } from '../../src/storage/disk-blob-store.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';

const [data = ''] = process.argv.slice(2);
const database = await openSqliteDatabase(join(data, 'slipway.db'));
const blobs = await openDiskBlobStore(join(data, 'packs'));
const rows = await database.read.selectFrom('store_path').select('store_path').execute();
const names = rows.map((row) => row.store_path).filter((path) => path.endsWith('-0'));
await addPin(
  database,
  'test',
  names.map((name) => parseStorePath(name)),
);
await database.write(async (transaction) => {
  await transaction.deleteFrom('lease').execute();
  await transaction.updateTable('store_path').set({ created_at: 1, last_access_at: 1 }).execute();
  await transaction.updateTable('pack').set({ created_at: 1 }).execute();
});
process.stdout.write('collecting\n');
for (;;) {
  await collectGarbage(
    { database, blobs },
    {
      settings: {
        ...DEFAULT_GARBAGE_SETTINGS,
        keepMs: 1,
        graceMs: 0,
        chunkGraceMs: 0,
        packGraceMs: 0,
        youngMs: 0,
      },
    },
  );
  await new Promise((resolve) => setTimeout(resolve, 5));
}
