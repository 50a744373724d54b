import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { formatStanza, parseAgeHeader } from './age-header.ts';
import { parseAgeIdentities } from './age-identity.ts';
import { isPostQuantum, parseAgeRecipient } from './age-recipient.ts';
import { formatBase64, parseBase64 } from './base64.ts';
import { decryptWith } from './decrypt-with.ts';
import { encryptTo } from './encrypt-to.ts';
import { parseSshPrivateKey } from './ssh-private-key.ts';
import { parseSshPublicKey } from './ssh-public-key.ts';
import { formatSshWire, positiveMpint, SshWireReader } from './ssh-wire.ts';
import { findStanzaFault } from './stanza-shape.ts';

let dir = '';
before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-age-'));
});
after(() => rmSync(dir, { recursive: true, force: true }));

let serial = 0;
function keygen(...args: string[]): string {
  const file = path.join(dir, `key-${serial++}`);
  execFileSync('ssh-keygen', ['-q', '-N', '', '-C', 'a comment', '-f', file, ...args]);
  return file;
}
const read = (file: string): string => readFileSync(file, 'utf8');

const refused = (pattern: RegExp) => (error: unknown) =>
  error instanceof Error && 'code' in error && error.code === 'invalid' && pattern.test(error.message);

test('parseBase64() is the inverse of formatBase64() and takes no other spelling', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const text = formatBase64(bytes);
      assert.deepEqual(parseBase64(text), Buffer.from(bytes));
      assert.equal(parseBase64(`${text}=`), undefined);
    }),
  );
  for (const bad of ['A', 'AB', 'AA==', 'A A', 'A-_A', 'AAA\n'])
    assert.equal(parseBase64(bad), undefined, bad);
});

test('SshWireReader reads back what formatSshWire() wrote', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }), (fields) => {
      const reader = new SshWireReader(formatSshWire(...fields));
      for (const field of fields) assert.deepEqual(reader.string(), Buffer.from(field));
      reader.end();
    }),
  );
  assert.throws(
    () => new SshWireReader(Buffer.from('00000005aa', 'hex')).string(),
    refused(/middle of a field/),
  );
  assert.deepEqual(positiveMpint(Buffer.of(0x80)), Buffer.of(0, 0x80));
});

test('parseSshPublicKey() gives the fingerprint that ssh-keygen prints', () => {
  for (const type of ['ed25519', 'rsa']) {
    const file = keygen('-t', type);
    const printed = execFileSync('ssh-keygen', ['-l', '-f', `${file}.pub`])
      .toString()
      .split(' ')[1];
    assert.equal(parseSshPublicKey(read(`${file}.pub`)).fingerprint, printed);
  }
});

test('parseSshPublicKey() ignores comment and blanks, and refuses what age cannot write to', () => {
  const line = read(`${keygen('-t', 'ed25519')}.pub`);
  assert.equal(parseSshPublicKey(`  ${line}`).text, line.split(' ').slice(0, 2).join(' '));
  assert.throws(
    () => parseSshPublicKey(read(`${keygen('-t', 'ecdsa')}.pub`)),
    refused(/ecdsa-sha2-nistp256/),
  );
  assert.throws(
    () => parseSshPublicKey(read(`${keygen('-t', 'rsa', '-b', '1024')}.pub`)),
    refused(/1024 bits/),
  );
  assert.throws(() => parseSshPublicKey('sk-ssh-ed25519@openssh.com AAAA'), refused(/sk-ssh-ed25519/));
  for (const bad of [
    '',
    'ssh-ed25519',
    'ssh-ed25519 ????',
    'ssh-ed25519 AAAA',
    line.replace('AAAAC3', 'AAAAC2'),
  ]) {
    assert.throws(() => parseSshPublicKey(bad), refused(/./), bad);
  }
});

test('parseSshPublicKey() survives any bytes', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('ssh-ed25519', 'ssh-rsa'),
      fc.uint8Array({ maxLength: 80 }),
      (type, bytes) => {
        const wire = Buffer.concat([formatSshWire(type), bytes]);
        try {
          parseAgeRecipient(`${type} ${wire.toString('base64')}`);
        } catch (error) {
          assert.ok(refused(/./)(error));
        }
      },
    ),
  );
});

function ed25519Line(point: Buffer): string {
  return `ssh-ed25519 ${formatSshWire('ssh-ed25519', point).toString('base64')}`;
}

test('parseAgeRecipient() refuses an ed25519 key that is not a usable point', () => {
  const identityPoint = Buffer.alloc(32);
  identityPoint[0] = 1;
  assert.throws(() => parseAgeRecipient(ed25519Line(identityPoint)), refused(/not a valid point/));
  assert.throws(() => parseAgeRecipient(ed25519Line(Buffer.alloc(32, 0xff))), refused(/not a valid point/));
});

test('parseSshPrivateKey() reads every spelling of an unencrypted key', () => {
  for (const args of [
    ['-t', 'ed25519'],
    ['-t', 'rsa'],
    ['-t', 'rsa', '-m', 'PEM'],
    ['-t', 'rsa', '-m', 'PKCS8'],
  ]) {
    const file = keygen(...args);
    const expected = parseSshPublicKey(read(`${file}.pub`)).text;
    assert.equal(parseSshPrivateKey(readFileSync(file)).publicKey.text, expected, args.join(' '));
  }
  const pkcs8 = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' });
  assert.equal(parseSshPrivateKey(Buffer.from(pkcs8)).type, 'ssh-ed25519');
});

test('parseSshPrivateKey() says that a passphrase is in the way, and never repeats the key', () => {
  const file = path.join(dir, 'locked');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', 'geheim', '-f', file]);
  assert.throws(() => parseSshPrivateKey(readFileSync(file)), refused(/passphrase/));
  const canary = 'Q0FOQVJZ'.repeat(8);
  const fake = `-----BEGIN OPENSSH PRIVATE KEY-----\n${canary}\n-----END OPENSSH PRIVATE KEY-----\n`;
  assert.throws(
    () => parseSshPrivateKey(Buffer.from(fake)),
    (error) => error instanceof Error && !JSON.stringify([error.message, error.stack]).includes('Q0FO'),
  );
});

function pemBody(file: string): Buffer {
  return Buffer.from(read(file).replaceAll(/-----.*-----/g, ''), 'base64');
}

test('parseSshPrivateKey() refuses a private key under the public key of another', () => {
  const one = pemBody(keygen('-t', 'ed25519'));
  const publicAt = one.indexOf('ssh-ed25519') + 11;
  one[publicAt + 10] = (one[publicAt + 10] ?? 0) ^ 1;
  const pem = `-----BEGIN OPENSSH PRIVATE KEY-----\n${one.toString('base64')}\n-----END OPENSSH PRIVATE KEY-----\n`;
  assert.throws(() => parseSshPrivateKey(Buffer.from(pem)), refused(/does not belong/));
});

test('parseAgeIdentities() reads an age-keygen file with comments and several keys', async () => {
  const keys = [await generateX25519Identity(), await generateHybridIdentity()];
  const file = `# created: today\r\n# public key: age1…\r\n${keys[0] ?? ''}\r\n\n${keys[1] ?? ''}\n`;
  const identities = await parseAgeIdentities(Buffer.from(file));
  assert.deepEqual(
    identities.map((one) => one.recipient.text),
    await Promise.all(keys.map(identityToRecipient)),
  );
  assert.deepEqual(
    identities.map((one) => isPostQuantum(one.recipient)),
    [false, true],
  );
});

test('parseAgeIdentities() never repeats what it refuses', async () => {
  const canary = 'AGE-SECRET-KEY-1CANARYCANARYCANARY';
  for (const bad of [canary, '', '# only a comment', `age1${canary}`]) {
    await assert.rejects(
      parseAgeIdentities(Buffer.from(bad)),
      (error) => refused(/not an age identity/)(error) && !String((error as Error).stack).includes('CANARY'),
    );
  }
});

test('encryptTo() and decryptWith() give back any content, for any mix of recipients, armored or not', async () => {
  const ed25519 = keygen('-t', 'ed25519');
  const rsa = keygen('-t', 'rsa');
  const native = await generateX25519Identity();
  const identities = [
    ...(await parseAgeIdentities(readFileSync(ed25519))),
    ...(await parseAgeIdentities(readFileSync(rsa))),
    ...(await parseAgeIdentities(Buffer.from(native))),
  ];
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ maxLength: 300 }),
      fc.shuffledSubarray(identities, { minLength: 1 }),
      fc.boolean(),
      async (plaintext, readers, armor) => {
        const file = await encryptTo(
          readers.map((one) => one.recipient),
          plaintext,
          { armor },
        );
        const header = parseAgeHeader(file);
        assert.equal(header.armored, armor);
        assert.deepEqual(
          header.stanzas.map(findStanzaFault),
          readers.map(() => undefined),
        );
        assert.deepEqual(
          header.stanzas.map((stanza) => stanza.type),
          readers.map((one) => one.recipient.type),
        );
        for (const one of identities) {
          const outcome = await decryptWith([one], file);
          if (readers.includes(one))
            assert.deepEqual(outcome, { kind: 'plaintext', plaintext: Buffer.from(plaintext) });
          else assert.deepEqual(outcome, { kind: 'no_match' });
        }
      },
    ),
    { numRuns: 25 },
  );
});

test('encryptTo() refuses no recipient, and post-quantum ones among others', async () => {
  const hybrid = parseAgeRecipient(await identityToRecipient(await generateHybridIdentity()));
  const plain = parseAgeRecipient(await identityToRecipient(await generateX25519Identity()));
  await assert.rejects(encryptTo([], Buffer.from('x')), refused(/at least one/));
  await assert.rejects(encryptTo([hybrid, plain], Buffer.from('x')), refused(/cannot be mixed/));
  assert.equal(
    parseAgeHeader(await encryptTo([hybrid], Buffer.from('x'))).stanzas[0]?.type,
    'mlkem768x25519',
  );
});

test('parseAgeRecipient() refuses what is not a recipient', () => {
  const zero = 'age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqs4exvu';
  for (const bad of ['age1', 'age1xyz', zero, 'age1yubikey1qwerty', 'age1pq1qqqq', 'hello', '']) {
    assert.throws(() => parseAgeRecipient(bad), refused(/./), bad);
  }
});

test('parseAgeHeader() is the inverse of formatStanza() for every stanza', () => {
  const argument = fc.stringMatching(/^[!-~]{1,20}$/);
  const body = fc.uint8Array({ maxLength: 150 }).map((bytes) => Buffer.from(bytes));
  const args = fc.array(argument, { maxLength: 3 });
  const stanza = fc.record({ type: argument, args, body }, { noNullPrototype: true });
  fc.assert(
    fc.property(fc.array(stanza, { minLength: 1, maxLength: 5 }), (stanzas) => {
      const text = `age-encryption.org/v1\n${stanzas.map(formatStanza).join('')}--- ${'A'.repeat(43)}\n${'p'.repeat(32)}`;
      assert.deepEqual(parseAgeHeader(Buffer.from(text)).stanzas, stanzas);
    }),
  );
});

test('parseAgeHeader() survives any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, begun) => {
      const start = begun ? Buffer.from('age-encryption.org/v1\n-> X25519 ') : Buffer.alloc(0);
      assert.throws(() => parseAgeHeader(Buffer.concat([start, bytes])), refused(/not a valid age file/));
    }),
  );
});
