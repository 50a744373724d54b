// The real nix against a cache on any pair of storage: `make test-nix-pairs` names it in SLIPWAY_TEST_STORAGE and the nix in
// PATH. `make test` has Debian's nix with SQLite and files.
import { after } from 'node:test';
import { closeTestStorage } from '../contract/cache-storage.ts';

process.env['SLIPWAY_TEST_STORAGE'] ??= 'postgres s3';
await import('./cache-nix.test.ts');
after(closeTestStorage); // the last hook: the servers of the scenarios are closed by theirs
