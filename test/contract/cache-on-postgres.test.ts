// The cache's scenarios once more, on a real PostgreSQL.
import { after } from 'node:test';
import { closeTestStorage } from './cache-storage.ts';

process.env['SLIPWAY_TEST_STORAGE'] = 'postgres';
for (const scenarios of ['protocol', 'refusals', 'same-path', 'damage', 'rebuild'])
  await import(`./cache-${scenarios}.test.ts`);
after(closeTestStorage); // the last hook: the servers of the scenarios are closed by theirs
