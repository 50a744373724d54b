// The ssh adapter against the Host contract and a real sshd, and what is its own: keys, logins, connections.
import assert from 'node:assert/strict';
import { readdir, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import { join } from 'node:path';
import { execText } from '../../src/effects/exec.ts';
import { openSshHost } from '../../src/effects/ssh-host.ts';
import { fingerprintOf } from '../../src/effects/ssh-target.ts';
import { isCode, SlipwayError } from '../../src/util/errors.ts';
import { hostContract } from './host.contract.ts';
import { openSshd, type Sshd } from './sshd.ts';

let sshd: Sshd;
before(async () => {
  sshd = await openSshd();
});
after(async () => {
  await sshd[Symbol.asyncDispose]();
});

hostContract('SshHost', async () => await openSshHost(sshd.target));

test('SshHost shares one connection, fresh() does not', async () => {
  await using host = await openSshHost(sshd.target);
  const peer = ['sh', '-c', 'echo $SSH_CONNECTION'];
  const [first, second, other] = [
    (await host.run(peer)).stdout.toString(),
    (await host.run(peer)).stdout.toString(),
    (await host.fresh().run(peer)).stdout.toString(),
  ];
  assert.equal(first, second);
  assert.notEqual(first, other);
});

test('SshHost goes on when the shared connection has died', async () => {
  await using host = await openSshHost(sshd.target);
  const session = (await host.run(['sh', '-c', 'echo $PPID'])).stdout.toString().trim();
  await execText(['kill', '-KILL', session]); // sshd's process for our connection
  const result = await host.run(['echo', 'here']).catch(async () => await host.run(['echo', 'here']));
  assert.equal(result.stdout.toString(), 'here\n');
});

test('openSshHost() refuses another key than the expected one and shows both fingerprints', async () => {
  const wrong = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS';
  const failure = await failureOf(openSshHost({ ...sshd.target, hostKeys: [wrong] }));
  assert.equal(failure.code, 'host_key_mismatch');
  assert.ok(failure.message.includes(fingerprintOf(wrong)));
  assert.ok(failure.message.includes(fingerprintOf(sshd.target.hostKeys[0] ?? '')));
});

test('openSshHost() tells a refused login from an unreachable host', async () => {
  const refused = await failureOf(openSshHost({ ...sshd.target, options: ['-F', 'none', '-i', '/nowhere'] }));
  assert.equal(refused.code, 'unauthorized');
  const unreachable = await failureOf(openSshHost({ ...sshd.target, port: 1 }));
  assert.equal(unreachable.code, 'host_unreachable');
  assert.match(unreachable.message, /Connection refused/);
});

test('openSshHost() can be cancelled', async () => {
  const opened = openSshHost(sshd.target, { signal: AbortSignal.abort() });
  await assert.rejects(opened, (error) => isCode(error, 'cancelled') || error instanceof Error);
});

test('SshHost keeps its files to itself and takes them along', async () => {
  const before = new Set(await readdir(tmpdir()));
  const host = await openSshHost(sshd.target);
  const made = (await readdir(tmpdir())).filter((name) => name.startsWith('slw-') && !before.has(name));
  const modes = await Promise.all(made.map(async (name) => (await stat(join(tmpdir(), name))).mode % 0o1000));
  assert.ok(modes.length > 0 && modes.every((mode) => mode === 0o700));
  await host[Symbol.asyncDispose]();
  const left = new Set(await readdir(tmpdir()));
  assert.ok(made.some((name) => !left.has(name)));
});

async function failureOf(opening: Promise<unknown>): Promise<SlipwayError> {
  const failure = await opening.then(
    () => undefined,
    (error: unknown) => error,
  );
  assert.ok(failure instanceof SlipwayError, String(failure));
  return failure;
}
