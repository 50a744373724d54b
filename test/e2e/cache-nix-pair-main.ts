// The real nix once more, against a cache on other storage: `make test-nix-pairs` sets SLIPWAY_TEST_STORAGE to `postgres`, `s3`
// and both. `make test` has the pair of SQLite and files.
import { after } from 'node:test';
import { closeTestStorage } from '../contract/cache-storage.ts';

process.env['SLIPWAY_TEST_STORAGE'] ??= 'postgres s3';
await import('./cache-nix.test.ts');
after(closeTestStorage); // the last hook: the servers of the scenarios are closed by theirs
