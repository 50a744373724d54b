// All 143 vectors of C2SP's CCTV suite for age, against decryption, the header reader and the stanza shapes.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { Decrypter } from 'age-encryption';
import * as cctv from 'cctv-age';
import { isArmored, parseAgeHeader, removeArmor } from './age-header.ts';
import { parseAgeIdentities } from './age-identity.ts';
import { decryptWith } from './decrypt-with.ts';
import { findStanzaFault } from './stanza-shape.ts';

interface Vector {
  readonly name: string;
  readonly expect: string;
  readonly payload: string | undefined;
  readonly identities: readonly string[];
  readonly passphrases: readonly string[];
  readonly file: Buffer;
}

const vectors = Object.entries(cctv as Record<string, Uint8Array>).map(([name, bytes]) =>
  parseVector(name, Buffer.from(bytes)),
);

function parseVector(name: string, bytes: Buffer): Vector {
  const end = bytes.indexOf('\n\n');
  const fields = bytes.toString('utf8', 0, end).split('\n');
  const all = (key: string): string[] =>
    fields.filter((field) => field.startsWith(`${key}: `)).map((field) => field.slice(key.length + 2));
  const body = bytes.subarray(end + 2);
  return {
    name,
    expect: all('expect')[0] ?? '',
    payload: all('payload')[0],
    identities: all('identity'),
    passphrases: all('passphrase'),
    file: all('compressed')[0] === 'zlib' ? inflateSync(body) : body,
  };
}

/** Passphrases are no part of this folder, so those vectors go to the library that it stands on. */
async function open(vector: Vector): Promise<Uint8Array | string> {
  if (vector.passphrases.length > 0) {
    const decrypter = new Decrypter();
    for (const passphrase of vector.passphrases) decrypter.addPassphrase(passphrase);
    return await decrypter.decrypt(withoutArmor(vector.file)).catch(() => 'refused');
  }
  const text = Buffer.from(vector.identities.join('\n'));
  const identities = vector.identities.length === 0 ? [] : await parseAgeIdentities(text);
  const outcome = await decryptWith(identities, vector.file);
  return outcome.kind === 'plaintext' ? outcome.plaintext : outcome.kind;
}

function withoutArmor(file: Buffer): Buffer {
  try {
    return isArmored(file) ? removeArmor(file) : file;
  } catch {
    return Buffer.alloc(0);
  }
}

test('cctv-age holds the 143 vectors that these tests were written for', () => {
  assert.equal(vectors.length, 143);
});

for (const vector of vectors) {
  test(`decryptWith() on vector ${vector.name}: ${vector.expect}`, async () => {
    const opened = await open(vector);
    if (vector.expect === 'success') {
      assert.ok(typeof opened !== 'string', `not opened: ${String(opened)}`);
      assert.equal(createHash('sha256').update(opened).digest('hex'), vector.payload);
      return;
    }
    assert.equal(typeof opened, 'string');
    if (vector.expect === 'no match' && vector.passphrases.length === 0) assert.equal(opened, 'no_match');
    if (vector.expect === 'HMAC failure') assert.equal(opened, 'damaged');
    if (vector.expect === 'armor failure') assert.equal(opened, 'malformed');
  });
}

// The share is a low-order point: only who has the key, and multiplies, sees it.
const NEEDS_A_KEY = ['hybrid_identity', 'hybrid_low_order', 'x25519_identity', 'x25519_low_order'];

function isReleasable(file: Buffer): boolean {
  try {
    return parseAgeHeader(file).stanzas.every((stanza) => findStanzaFault(stanza) === undefined);
  } catch {
    return false;
  }
}

test('parseAgeHeader() with findStanzaFault() refuse every header and armor failure that shows without a key', () => {
  const accepted = vectors.filter(
    (vector) => /header failure|armor failure/.test(vector.expect) && isReleasable(vector.file),
  );
  assert.deepEqual(
    accepted.map((vector) => vector.name),
    NEEDS_A_KEY,
  );
});

test('parseAgeHeader() reads every header that is sound and whose content is long enough', () => {
  const sound = vectors.filter((vector) => /success|no match|HMAC failure/.test(vector.expect));
  for (const vector of sound) assert.doesNotThrow(() => parseAgeHeader(vector.file), vector.name);
});
