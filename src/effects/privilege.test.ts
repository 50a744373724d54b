import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { exec } from './exec.ts';
import { asRoot, passwordSudo, PRIVILEGE_PROBE, privilegeFromProbe } from './privilege.ts';

const login = { host: 'web1', user: 'admin' };

test('privilegeFromProbe() takes the way that works, and says what is missing otherwise', () => {
  assert.deepEqual(privilegeFromProbe('root\n', login), { words: [] });
  assert.deepEqual(privilegeFromProbe('doas -n\n', login), { words: ['doas', '-n'] });
  assert.deepEqual(privilegeFromProbe('run0 --no-ask-password --\n', login).words.at(0), 'run0');
  assert.throws(() => privilegeFromProbe('password\n', login), { next: /--ask-sudo-password/ });
  assert.throws(
    () => privilegeFromProbe('none\n', login),
    (error) => isCode(error, 'forbidden'),
  );
  assert.equal(privilegeFromProbe('password\n', { ...login, password: 'p' }).password, 'p');
});

test('asRoot() never puts the password into argv, and takes it from stdin even when nobody read it', async () => {
  const command = asRoot(passwordSudo('s3cret'), { argv: ['cat', 'a b'], input: 'in\nput\n' });
  assert.ok(!command.argv.join(' ').includes('s3cret'));
  assert.match(Buffer.from(command.input ?? '').toString(), /^s3cret\nmark-[0-9a-f]{16}\nin\nput\n$/);
  const unread = asRoot({ words: [], password: 's3cret' }, { argv: ['cat'], input: 'in\nput\n' });
  const result = await exec(unread.argv, { input: unread.input ?? '' });
  assert.equal(result.stdout.toString(), 'in\nput\n');
});

test('PRIVILEGE_PROBE is a script that answers with one line', async () => {
  const result = await exec(['sh', '-s'], { input: PRIVILEGE_PROBE });
  assert.match(result.stdout.toString(), /^(root|sudo -n --|doas -n|run0 .*|password|none)\n$/);
});
