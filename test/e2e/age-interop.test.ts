// The real `age` program and ours read each other's files, for every type of recipient, armored or not.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { parseAgeHeader } from '../../src/age/age-header.ts';
import { parseAgeIdentities } from '../../src/age/age-identity.ts';
import { parseAgeRecipient } from '../../src/age/age-recipient.ts';
import { decryptWith } from '../../src/age/decrypt-with.ts';
import { encryptTo } from '../../src/age/encrypt-to.ts';
import { findStanzaFault } from '../../src/age/stanza-shape.ts';

interface Key {
  readonly name: string;
  readonly file: string;
  readonly publicKey: string;
}

let dir = '';
const keys: Key[] = [];

const KINDS: readonly (readonly string[])[] = [
  ['-t', 'ed25519'],
  ['-t', 'rsa', '-b', '2048'],
  ['-t', 'rsa', '-b', '3072'],
  ['-t', 'rsa', '-b', '4096'],
  ['-t', 'rsa', '-b', '2048', '-m', 'PEM'],
];
const CONTENTS = [Buffer.from('a short secret'), Buffer.alloc(0), Buffer.alloc(200_000, 'long ')];

before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-interop-'));
  for (const kind of KINDS) {
    const file = path.join(dir, `key-${keys.length}`);
    execFileSync('ssh-keygen', ['-q', '-N', '', '-C', 'interop', '-f', file, ...kind]);
    keys.push({ name: kind.join(' '), file, publicKey: readFileSync(`${file}.pub`, 'utf8').trim() });
  }
  const native = path.join(dir, 'native');
  execFileSync('age-keygen', ['-o', native], { stdio: 'ignore' });
  const publicKey = execFileSync('age-keygen', ['-y', native]).toString().trim();
  keys.push({ name: 'X25519', file: native, publicKey });
});
after(() => rmSync(dir, { recursive: true, force: true }));

function ageEncrypt(readers: readonly Key[], content: Buffer, armor: boolean): Buffer {
  const args = readers.flatMap((key) => ['-r', key.publicKey]);
  return execFileSync('age', [...(armor ? ['-a'] : []), ...args], { input: content });
}

/** By standard output: `age -o FILE` makes no file of an empty secret. */
function ageDecrypt(key: Key, file: Buffer): Buffer {
  return execFileSync('age', ['-d', '-i', key.file], { input: file });
}

async function open(key: Key, file: Buffer): Promise<Buffer | string> {
  const outcome = await decryptWith(await parseAgeIdentities(readFileSync(key.file)), file);
  return outcome.kind === 'plaintext' ? outcome.plaintext : outcome.kind;
}

async function bothWays(readers: readonly Key[], content: Buffer, armor: boolean): Promise<void> {
  const theirs = ageEncrypt(readers, content, armor);
  const ours = await encryptTo(
    readers.map((key) => parseAgeRecipient(key.publicKey)),
    content,
    { armor },
  );
  for (const file of [theirs, ours]) {
    const header = parseAgeHeader(file);
    assert.equal(header.armored, armor);
    assert.deepEqual(
      header.stanzas.map(findStanzaFault),
      readers.map(() => undefined),
    );
  }
  for (const key of readers) {
    assert.deepEqual(await open(key, theirs), content, `${key.name}: we cannot read age's file`);
    assert.deepEqual(ageDecrypt(key, ours), content, `${key.name}: age cannot read our file`);
  }
}

test('encryptTo() and decryptWith() agree with age for each type of key', async () => {
  assert.equal(keys.length, KINDS.length + 1);
  for (const key of keys) {
    for (const content of CONTENTS) {
      for (const armor of [false, true]) await bothWays([key], content, armor);
    }
  }
});

test('encryptTo() and decryptWith() agree with age for all types in one file', async () => {
  for (const content of CONTENTS) await bothWays(keys, content, true);
});

test('decryptWith() and age agree that a stranger cannot read', async () => {
  const [one, two] = keys;
  assert.ok(one && two);
  const file = await encryptTo([parseAgeRecipient(one.publicKey)], Buffer.from('x'));
  writeFileSync(path.join(dir, 'file.age'), file);
  assert.equal(await open(two, file), 'no_match');
  assert.throws(
    () => execFileSync('age', ['-d', '-i', two.file], { input: file, stdio: 'pipe' }),
    /no identity matched/,
  );
});
