import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { openRamFolder } from './ram-folder.ts';

test('openRamFolder() takes the first candidate in RAM, for its owner alone, and takes it away again', async () => {
  let made = '';
  {
    await using folder = await openRamFolder([undefined, '', '/nonexistent', '/dev/shm'], false);
    made = folder.path;
    assert.ok(made.startsWith('/dev/shm/'));
    assert.equal(statSync(made).mode & 0o777, 0o700);
  }
  assert.throws(() => statSync(made), /ENOENT/);
});

test('openRamFolder() refuses a disk unless it is allowed', async () => {
  const refusal = openRamFolder(['/proc', '/nonexistent'], false);
  await assert.rejects(
    refusal,
    (error) => isCode(error, 'forbidden') && /none of \/proc/.test(error.message),
  );
  await using folder = await openRamFolder(['/proc'], true);
  assert.ok(folder.path.startsWith(tmpdir()));
});
