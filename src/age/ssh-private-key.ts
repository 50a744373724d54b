// Private keys that open ssh-* stanzas: `openssh-key-v1` (OpenSSH's PROTOCOL.key) without passphrase, and what
// OpenSSL reads (PKCS#1 and PKCS#8 PEM). The public half is recomputed or compared, never trusted.
import { createPrivateKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { ed25519 } from '@noble/curves/ed25519.js';
import { SlipwayError } from '../util/errors.ts';
import { readSshPublicKey, type SshPublicKey } from './ssh-public-key.ts';
import { formatSshWire, positiveMpint, SshWireReader } from './ssh-wire.ts';

export type SshPrivateKey =
  | { readonly type: 'ssh-ed25519'; readonly seed: Buffer; readonly publicKey: SshPublicKey }
  | { readonly type: 'ssh-rsa'; readonly key: KeyObject; readonly publicKey: SshPublicKey };

const OPENSSH_PEM =
  /^-----BEGIN OPENSSH PRIVATE KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END OPENSSH PRIVATE KEY-----\s*$/;
const MAGIC = 'openssh-key-v1\0';

/** Parses a private key file. Fails with `invalid`; the message never carries any of its bytes. */
export function parseSshPrivateKey(file: Uint8Array): SshPrivateKey {
  const pem = Buffer.from(file).toString('latin1').trim();
  const body = OPENSSH_PEM.exec(pem)?.[1];
  if (body !== undefined) return readOpenSshKey(Buffer.from(body, 'base64'));
  if (/ENCRYPTED/.test(pem)) throw encryptedKey();
  return fromKeyObject(readPem(pem));
}

function readOpenSshKey(bytes: Buffer): SshPrivateKey {
  const reader = new SshWireReader(bytes);
  if (reader.take(Math.min(MAGIC.length, bytes.length)).toString('latin1') !== MAGIC) throw malformed();
  const [cipher, kdf] = [reader.text(), reader.text()];
  reader.string(); // options of the key derivation, empty without a passphrase
  if (cipher !== 'none' || kdf !== 'none') throw encryptedKey();
  if (reader.uint32() !== 1) throw malformed();
  const publicKey = readSshPublicKey(Buffer.from(reader.string()));
  return readPrivateSection(new SshWireReader(reader.string()), publicKey);
}

function readPrivateSection(reader: SshWireReader, publicKey: SshPublicKey): SshPrivateKey {
  if (reader.uint32() !== reader.uint32() || reader.text() !== publicKey.type) throw malformed();
  const key = publicKey.type === 'ssh-ed25519' ? readEd25519(reader, publicKey) : readRsa(reader, publicKey);
  reader.string(); // comment
  if (!reader.rest().every((byte, index) => byte === index + 1)) throw malformed();
  return key;
}

function readEd25519(reader: SshWireReader, publicKey: SshPublicKey): SshPrivateKey {
  const point = reader.string();
  const secret = reader.string();
  const seed = Buffer.from(secret.subarray(0, 32));
  if (secret.length !== 64 || !secret.subarray(32).equals(point)) throw malformed();
  return fromSeed(seed, publicKey);
}

function fromSeed(seed: Buffer, expected?: SshPublicKey): SshPrivateKey {
  const publicKey = readSshPublicKey(formatSshWire('ssh-ed25519', ed25519.getPublicKey(seed)));
  if (expected !== undefined && expected.text !== publicKey.text) throw mismatch();
  return { type: 'ssh-ed25519', seed, publicKey };
}

/** OpenSSH stores n, e, d, q⁻¹ mod p, p, q; OpenSSL also wants d mod p−1 and d mod q−1. */
function readRsa(reader: SshWireReader, publicKey: SshPublicKey): SshPrivateKey {
  const [n, e, d] = [reader.positive(), reader.positive(), reader.positive()];
  const [qi, p, q] = [reader.positive(), reader.positive(), reader.positive()];
  if (toBigInt(p) * toBigInt(q) !== toBigInt(n)) throw mismatch();
  const jwk: JsonWebKey = {
    kty: 'RSA',
    ...Object.fromEntries(
      Object.entries({ n, e, d, p, q, qi, dp: reduced(d, p), dq: reduced(d, q) }).map(([name, value]) => [
        name,
        value.toString('base64url'),
      ]),
    ),
  };
  return fromKeyObject(importJwk(jwk), publicKey);
}

function fromKeyObject(key: KeyObject, expected?: SshPublicKey): SshPrivateKey {
  const jwk = key.export({ format: 'jwk' });
  if (key.asymmetricKeyType === 'ed25519') return fromSeed(field(jwk.d), expected);
  if (key.asymmetricKeyType !== 'rsa') throw unsupported();
  const wire = formatSshWire('ssh-rsa', positiveMpint(field(jwk.e)), positiveMpint(field(jwk.n)));
  const publicKey = readSshPublicKey(wire);
  if (expected !== undefined && expected.text !== publicKey.text) throw mismatch();
  return { type: 'ssh-rsa', key, publicKey };
}

function field(text: string | undefined): Buffer {
  return Buffer.from(text ?? '', 'base64url');
}

function readPem(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch {
    throw malformed(); // OpenSSL's reason is dropped on purpose: nothing of a private key in a message
  }
}

function importJwk(jwk: JsonWebKey): KeyObject {
  try {
    return createPrivateKey({ key: jwk, format: 'jwk' });
  } catch {
    throw malformed();
  }
}

function toBigInt(bytes: Buffer): bigint {
  return bytes.length === 0 ? 0n : BigInt(`0x${bytes.toString('hex')}`);
}

function reduced(d: Buffer, prime: Buffer): Buffer {
  const modulus = toBigInt(prime) - 1n;
  if (modulus <= 0n) throw malformed();
  const hex = (toBigInt(d) % modulus).toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
}

function malformed(): SlipwayError {
  return new SlipwayError('invalid', 'The file is not a private key that can be read.', {
    next: 'Give an unencrypted OpenSSH key (ssh-keygen -t ed25519 -N "") or an age identity (age-keygen).',
  });
}

function mismatch(): SlipwayError {
  return new SlipwayError('invalid', 'The private key does not belong to the public key in the same file.', {
    next: 'The file is damaged: restore it, or make a new key.',
  });
}

function encryptedKey(): SlipwayError {
  return new SlipwayError('invalid', 'The private key is protected by a passphrase.', {
    next: 'Use a key of its own without passphrase for re-keying: ssh-keygen -t ed25519 -N "" -f rekey.key',
  });
}

function unsupported(): SlipwayError {
  return new SlipwayError('invalid', 'Only ssh-ed25519 and ssh-rsa private keys can open age files.', {
    next: 'Use an ssh-ed25519 key or an age identity.',
  });
}
