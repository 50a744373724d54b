// Frozen files for SSH recipients, written by the age program (test/vectors/age), and the same files damaged.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { formatStanza, parseAgeHeader, removeArmor } from './age-header.ts';
import { parseAgeIdentities } from './age-identity.ts';
import { parseAgeRecipient } from './age-recipient.ts';
import { formatBase64 } from './base64.ts';
import { decryptWith } from './decrypt-with.ts';
import { encryptTo } from './encrypt-to.ts';
import { findStanzaFault } from './stanza-shape.ts';

interface Frozen {
  readonly keys: Readonly<Record<string, { readonly public: string; readonly private: string }>>;
  readonly vectors: readonly {
    readonly name: string;
    readonly size: number;
    readonly identity: string;
    readonly sha256: string;
    readonly file: string;
  }[];
}

const frozen = JSON.parse(
  readFileSync(new URL('../../test/vectors/age/ssh.json', import.meta.url), 'utf8'),
) as Frozen;

const identity = async (name: string) =>
  await parseAgeIdentities(Buffer.from(frozen.keys[name]?.private ?? ''));
const recipient = (name: string) => parseAgeRecipient(frozen.keys[name]?.public ?? '');
const file = (name: string): Buffer => {
  const found = frozen.vectors.find((vector) => vector.name === name);
  return Buffer.from(found?.file ?? '', 'base64');
};

for (const vector of frozen.vectors) {
  test(`decryptWith() opens ${vector.name}, written by age`, async () => {
    const outcome = await decryptWith(await identity(vector.identity), file(vector.name));
    assert.ok(outcome.kind === 'plaintext', outcome.kind);
    assert.equal(outcome.plaintext.length, vector.size);
    assert.equal(createHash('sha256').update(outcome.plaintext).digest('hex'), vector.sha256);
  });
}

for (const name of Object.keys(frozen.keys)) {
  test(`parseAgeIdentities() finds the public key of ${name}`, async () => {
    const [own] = await identity(name);
    const spelled = frozen.keys[name]?.public.split(' ') ?? [];
    assert.equal(own?.recipient.text, name === 'x25519' ? spelled[0] : spelled.slice(0, 2).join(' '));
  });
  test(`encryptTo() writes for ${name} what decryptWith() opens`, async () => {
    const plaintext = Buffer.from(`for ${name}`);
    const written = await encryptTo([recipient(name)], plaintext);
    const outcome = await decryptWith(await identity(name), written);
    assert.deepEqual(outcome, { kind: 'plaintext', plaintext });
  });
}

test('decryptWith() says no_match for a key that the file does not name', async () => {
  assert.deepEqual(await decryptWith(await identity('ed25519-b'), file('ed25519-a')), { kind: 'no_match' });
  assert.deepEqual(await decryptWith(await identity('rsa-3072'), file('rsa-2048')), { kind: 'no_match' });
});

test('parseAgeHeader() reads age-written SSH stanzas of the right shape, with the tag of the key', () => {
  const stanzas = parseAgeHeader(file('mixed-for-x25519')).stanzas;
  assert.deepEqual(
    stanzas.map((stanza) => stanza.type),
    ['ssh-ed25519', 'ssh-rsa', 'X25519', 'ssh-ed25519'],
  );
  assert.deepEqual(stanzas.map(findStanzaFault), [undefined, undefined, undefined, undefined]);
  assert.equal(stanzas[0]?.args[0], recipient('ed25519-a').tag);
  assert.equal(stanzas[1]?.args[0], recipient('rsa-2048').tag);
});

/** The frozen file with its first stanza changed; the MAC is wrong then too, but the stanza is judged first. */
function altered(name: string, change: (args: string[], body: Buffer) => [string[], Buffer]): Buffer {
  const whole = file(name);
  const header = parseAgeHeader(whole);
  const [first] = header.stanzas;
  assert.ok(first);
  const [args, body] = change([...first.args], Buffer.from(first.body));
  const text = whole.toString('latin1');
  return Buffer.from(
    text.replace(formatStanza(first), formatStanza({ type: first.type, args, body })),
    'latin1',
  );
}

const noCanonical = (args: string[]): string[] =>
  args.map((arg) => (arg.length === 43 ? `${arg.slice(0, 42)}B` : arg));

const damages: readonly (readonly [string, string, (args: string[], body: Buffer) => [string[], Buffer]])[] =
  [
    [
      'a share of 31 bytes',
      'ed25519-a',
      ([tag = ''], body) => [[tag, formatBase64(Buffer.alloc(31, 9))], body],
    ],
    [
      'a share of 33 bytes',
      'ed25519-a',
      ([tag = ''], body) => [[tag, formatBase64(Buffer.alloc(33, 9))], body],
    ],
    ['a low-order share', 'ed25519-a', ([tag = ''], body) => [[tag, formatBase64(Buffer.alloc(32))], body]],
    ['a share that is not canonical', 'ed25519-a', (args, body) => [noCanonical(args), body]],
    ['a missing share', 'ed25519-a', ([tag = ''], body) => [[tag], body]],
    ['an argument too many', 'ed25519-a', (args, body) => [[...args, 'x'], body]],
    ['a body of 33 bytes', 'ed25519-a', (args, body) => [args, Buffer.concat([body, Buffer.of(0)])]],
    [
      'a flipped bit in the body',
      'ed25519-a',
      (args, body) => [args, Buffer.from(body.map((b, i) => (i === 3 ? b ^ 1 : b)))],
    ],
    ['a short RSA body', 'rsa-2048', (args, body) => [args, body.subarray(1)]],
    [
      'a flipped bit in the RSA body',
      'rsa-2048',
      (args, body) => [args, Buffer.from(body.map((b, i) => (i === 99 ? b ^ 1 : b)))],
    ],
    ['an argument too many for RSA', 'rsa-2048', (args, body) => [[...args, 'x'], body]],
  ];

for (const [what, name, change] of damages) {
  test(`decryptWith() calls a file damaged when the own stanza has ${what}`, async () => {
    assert.deepEqual(await decryptWith(await identity(name), altered(name, change)), { kind: 'damaged' });
  });
}

test('decryptWith() passes over a stanza whose tag was changed', async () => {
  const other = altered('ed25519-a', ([, share = ''], body) => [
    [recipient('ed25519-b').tag ?? '', share],
    body,
  ]);
  assert.deepEqual(await decryptWith(await identity('ed25519-a'), other), { kind: 'no_match' });
  assert.deepEqual(await decryptWith(await identity('ed25519-b'), other), { kind: 'damaged' });
});

test('decryptWith() notices content that was cut or altered', async () => {
  const whole = file('chunk');
  const flipped = Buffer.from(whole);
  flipped[whole.length - 1] = (whole.at(-1) ?? 0) ^ 1;
  for (const bad of [whole.subarray(0, -1), flipped, Buffer.concat([whole, Buffer.of(0)])]) {
    assert.deepEqual(await decryptWith(await identity('ed25519-a'), bad), { kind: 'damaged' });
  }
});

test('removeArmor() gives the binary file that encryptTo() wrapped', async () => {
  const written = await encryptTo([recipient('ed25519-a')], Buffer.from('x'), { armor: true });
  assert.match(written.toString(), /^-----BEGIN AGE ENCRYPTED FILE-----\n/);
  assert.equal(parseAgeHeader(written).armored, true);
  assert.equal(parseAgeHeader(removeArmor(written)).armored, false);
});
