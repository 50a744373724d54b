import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { readSecretReference, secretFilePath } from './secret-reference.ts';

test('readSecretReference() reads a file without its final newline', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-secret-'));
  try {
    await writeFile(path.join(folder, 'token'), 'slw_abc\n');
    assert.equal(await readSecretReference(`file:${folder}/token`), 'slw_abc');
    const env = { CREDENTIALS_DIRECTORY: folder };
    assert.equal(await readSecretReference('credential:token', env), 'slw_abc');
    assert.equal(secretFilePath('credential:token', env), path.join(folder, 'token'));
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('readSecretReference() reads a variable and refuses an absent or empty one', async () => {
  assert.equal(await readSecretReference('env:TOKEN', { TOKEN: 'x' }), 'x');
  for (const env of [{}, { TOKEN: '' }]) {
    await assert.rejects(readSecretReference('env:TOKEN', env), (error) => isCode(error, 'invalid'));
  }
});

test('readSecretReference() names the reference, not a value, when a file is missing', async () => {
  await assert.rejects(readSecretReference('file:/does/not/exist'), (error) => {
    assert.ok(isCode(error, 'invalid'));
    assert.match(error.message, /file:\/does\/not\/exist/);
    return true;
  });
});
