// The `ssh-rsa` stanza of Go's agessh: `-> ssh-rsa TAG`, body RSA-OAEP (SHA-256, MGF1-SHA-256, label L) of the file key.
import { constants, createPublicKey, privateDecrypt, publicEncrypt } from 'node:crypto';
import { Stanza } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { FILE_KEY_BYTES } from './file-key.ts';
import type { SshPrivateKey } from './ssh-private-key.ts';
import type { SshPublicKey } from './ssh-public-key.ts';

const OAEP = {
  padding: constants.RSA_PKCS1_OAEP_PADDING,
  oaepHash: 'sha256',
  oaepLabel: Buffer.from('age-encryption.org/v1/ssh-rsa'),
};

type RsaPublicKey = Extract<SshPublicKey, { type: 'ssh-rsa' }>;
type RsaPrivateKey = Extract<SshPrivateKey, { type: 'ssh-rsa' }>;

export function sshRsaWrapper(key: RsaPublicKey): (fileKey: Uint8Array) => Stanza[] {
  const jwk = {
    kty: 'RSA',
    n: key.modulus.toString('base64url'),
    e: key.exponent.toString('base64url'),
  };
  const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
  return (fileKey) => [
    new Stanza(['ssh-rsa', key.tag], publicEncrypt({ key: publicKey, ...OAEP }, Buffer.from(fileKey))),
  ];
}

export function sshRsaUnwrapper(key: RsaPrivateKey): (stanzas: readonly Stanza[]) => Buffer | null {
  return (stanzas) => {
    const own = stanzas.find(
      (stanza) => stanza.args[0] === 'ssh-rsa' && stanza.args[1] === key.publicKey.tag,
    );
    return own === undefined ? null : open(key, own);
  };
}

function open(key: RsaPrivateKey, stanza: Stanza): Buffer {
  try {
    const fileKey = privateDecrypt({ key: key.key, ...OAEP }, stanza.body);
    if (stanza.args.length === 2 && fileKey.length === FILE_KEY_BYTES) return fileKey;
  } catch {
    // said below: the tag matched, so this is damage or forgery
  }
  throw new SlipwayError('invalid', 'The stanza of this ssh-rsa key does not open.');
}
