import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findExposure, type Exposure, type ReleaseStep, type Subject } from './exposure.ts';
import { EMPTY_RECORD, type RecordedSecret } from './secrets-record.ts';

const hash = (letter: string): string => letter.repeat(64);
const K = hash('f');

/** `value` names the plaintext, `file` the source's ciphertext. */
function secret(path: string, value: string, file: string, ...hosts: string[]): RecordedSecret {
  return { path, sourceSha256: hash(file), releaseSha256: hash('0'), plaintextMac: hash(value), hosts };
}

function release(
  serial: number,
  secrets: RecordedSecret[],
  { editors = ['SHA256:anna'], macKeyId = K }: { editors?: string[]; macKeyId?: string } = {},
): ReleaseStep {
  const record = { ...EMPTY_RECORD, editors, macKeyId, secrets };
  return { serial, commit: hash(String(serial % 10)), at: serial, record };
}

function find(subject: Subject, ...releases: ReleaseStep[]): string[] {
  return findExposure(releases, subject).map(
    ({ path, first, last, values, status }: Exposure) => `${path} ${first}-${last} ${values} ${status}`,
  );
}

const WEB = { host: 'web' };

test('findExposure() tells what a host reads, and from which release on', () => {
  const one = release(1, [secret('a', 'a', '1', 'web'), secret('b', 'b', '2', 'db')]);
  const two = release(2, [secret('a', 'a', '1', 'web'), secret('b', 'b', '2', 'db', 'web')]);
  assert.deepEqual(find(WEB, one, two), ['a 1-2 1 reads', 'b 2-2 1 reads']);
  assert.deepEqual(find({ host: 'nobody' }, one, two), []);
});

test('findExposure() says that a revoked host knows a value until it changes', () => {
  const shared = release(1, [secret('a', 'a', '1', 'db', 'web')]);
  const revoked = release(2, [secret('a', 'a', '1', 'db')]);
  assert.deepEqual(find(WEB, shared, revoked), ['a 1-1 1 known']);
  const resealed = release(3, [secret('a', 'a', '2', 'db')]);
  assert.deepEqual(find(WEB, shared, revoked, resealed), ['a 1-1 1 known'], 'encrypted anew is not changed');
  const rotated = release(4, [secret('a', 'b', '3', 'db')]);
  assert.deepEqual(find(WEB, shared, revoked, rotated), ['a 1-1 1 rotated']);
  const back = release(5, [secret('a', 'a', '4', 'db')]);
  assert.deepEqual(find(WEB, shared, rotated, back), ['a 1-1 1 known'], 'an old value came back');
  assert.deepEqual(find(WEB, shared, release(6, [])), ['a 1-1 1 gone']);
});

test('findExposure() counts the values that a subject could read', () => {
  const steps = [
    release(1, [secret('a', 'a', '1', 'web')]),
    release(2, [secret('a', 'b', '2', 'web')]),
    release(3, [secret('a', 'c', '3', 'db')]),
  ];
  assert.deepEqual(find(WEB, ...steps), ['a 1-2 2 rotated']);
});

test('findExposure() does not claim a change that MACs under different keys cannot show', () => {
  const shared = release(1, [secret('a', 'a', '1', 'web')]);
  const other = release(2, [secret('a', 'b', '2', 'db')], { macKeyId: hash('e') });
  assert.deepEqual(find(WEB, shared, other), ['a 1-1 1 unknown']);
  const plain = release(3, [{ ...secret('a', 'b', '3', 'db'), plaintextMac: undefined }]);
  assert.deepEqual(find(WEB, shared, plain), ['a 1-1 1 unknown']);
});

test('findExposure() of an editor is everything that was released while it was one', () => {
  const steps = [
    release(1, [secret('a', 'a', '1', 'web')], { editors: ['SHA256:anna', 'SHA256:ben'] }),
    release(2, [secret('a', 'a', '1', 'web'), secret('b', 'b', '2', 'web')]),
  ];
  assert.deepEqual(find({ fingerprint: 'SHA256:ben' }, ...steps), ['a 1-1 1 known']);
  assert.deepEqual(find({ fingerprint: 'SHA256:anna' }, ...steps), ['a 1-2 1 reads', 'b 2-2 1 reads']);
});
