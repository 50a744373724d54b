// Ed25519 keys and signatures as Nix writes them: `name:base64`, secret keys being 64 bytes of seed and public half.
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';

export interface PublicKey {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly key: KeyObject;
}

export interface SecretKey {
  readonly name: string;
  readonly publicBytes: Uint8Array;
  readonly key: KeyObject;
}

// DER prefixes of RFC 8410 for a raw Ed25519 seed and a raw public key.
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

/** Parses the content of a secret key file; a public half that does not fit the seed is refused. Throws `invalid`. */
export function parseSecretKey(text: string): SecretKey {
  const { name, bytes } = splitNamed(text.trim(), 'secret key');
  if (bytes.length !== 64)
    throw new SlipwayError('invalid', `The secret key "${name}" does not have 64 bytes.`);
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, bytes.subarray(0, 32)]),
    format: 'der',
    type: 'pkcs8',
  });
  const publicBytes = rawPublic(createPublicKey(key));
  if (!publicBytes.equals(bytes.subarray(32))) {
    throw new SlipwayError('invalid', `The two halves of the secret key "${name}" do not belong together.`);
  }
  return { name, publicBytes, key };
}

export function parsePublicKey(text: string): PublicKey {
  const { name, bytes } = splitNamed(text.trim(), 'public key');
  if (bytes.length !== 32)
    throw new SlipwayError('invalid', `The public key "${name}" does not have 32 bytes.`);
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, bytes]), format: 'der', type: 'spki' });
  return { name, bytes, key };
}

/** A fresh secret key as the text of its file. */
export function generateSecretKey(name: string): string {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32);
  return `${name}:${Buffer.concat([seed, rawPublic(publicKey)]).toString('base64')}`;
}

export function publicKeyOf(secret: SecretKey): string {
  return `${secret.name}:${Buffer.from(secret.publicBytes).toString('base64')}`;
}

/** `name:base64` over the bytes. */
export function signText(secret: SecretKey, message: Uint8Array | string): string {
  const signature = sign(null, Buffer.from(message), secret.key);
  return `${secret.name}:${signature.toString('base64')}`;
}

/** Whether the signature was made over these bytes by one of the keys. A malformed signature is simply not valid. */
export function verifyText(
  keys: readonly PublicKey[],
  message: Uint8Array | string,
  signature: string,
): boolean {
  const match = /^([^:]+):([A-Za-z0-9+/]{86}==)$/.exec(signature);
  if (match === null) return false;
  const bytes = Buffer.from(match[2] ?? '', 'base64');
  return keys.some((key) => key.name === match[1] && verify(null, Buffer.from(message), key.key, bytes));
}

function splitNamed(text: string, what: string): { name: string; bytes: Buffer } {
  const match = /^([A-Za-z0-9._+-]{1,128}):([A-Za-z0-9+/]+=*)$/.exec(text);
  if (match === null) {
    throw new SlipwayError('invalid', `This is not a Nix ${what}.`, {
      next: 'It should read name:base64, on one line.',
    });
  }
  return { name: match[1] ?? '', bytes: Buffer.from(match[2] ?? '', 'base64') };
}

function rawPublic(key: KeyObject): Buffer {
  return key.export({ format: 'der', type: 'spki' }).subarray(-32);
}
