// The `ssh-ed25519` stanza: `-> ssh-ed25519 TAG SHARE`, body the wrapped file key. It is not in C2SP's age.md; the
// format is that of Go's agessh. With W the key's wire form, M its point in Montgomery form, L the label:
//   tweak t = HKDF(ikm = empty, salt = W, L);  secret = t·(e·M);  wrap key = HKDF(secret, salt = E ‖ M, L).
// Scalar multiplications commute, so the encrypting side keeps t·M per key and multiplies once per file.
import { createHash, type KeyObject } from 'node:crypto';
import { ed25519 } from '@noble/curves/ed25519.js';
import { Stanza } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { formatBase64, parseBase64 } from './base64.ts';
import { deriveKey, openFileKey, sealFileKey, WRAPPED_FILE_KEY_BYTES } from './file-key.ts';
import type { SshPrivateKey } from './ssh-private-key.ts';
import type { SshPublicKey } from './ssh-public-key.ts';
import { x25519Base, x25519Ephemeral, x25519Multiply, x25519Point, x25519Scalar } from './x25519.ts';

const LABEL = 'age-encryption.org/v1/ssh-ed25519';

type Ed25519PublicKey = Extract<SshPublicKey, { type: 'ssh-ed25519' }>;
type Ed25519PrivateKey = Extract<SshPrivateKey, { type: 'ssh-ed25519' }>;

export function sshEd25519Wrapper(key: Ed25519PublicKey): (fileKey: Uint8Array) => Stanza[] {
  const montgomery = montgomeryPoint(key.point);
  const tweaked = x25519Multiply(tweak(key.wire), x25519Point(montgomery));
  if (tweaked === undefined) throw badPoint();
  const target = x25519Point(tweaked);
  return (fileKey) => {
    const { scalar, share } = x25519Ephemeral();
    const secret = x25519Multiply(scalar, target);
    if (secret === undefined) throw badPoint();
    const wrapKey = deriveKey(secret, Buffer.concat([share, montgomery]), LABEL);
    return [new Stanza(['ssh-ed25519', key.tag, formatBase64(share)], sealFileKey(fileKey, wrapKey))];
  };
}

export function sshEd25519Unwrapper(key: Ed25519PrivateKey): (stanzas: readonly Stanza[]) => Buffer | null {
  const { tag, wire } = key.publicKey;
  const scalar = x25519Scalar(createHash('sha512').update(key.seed).digest().subarray(0, 32));
  const montgomery = x25519Base(scalar);
  const tweakScalar = tweak(wire);
  return (stanzas) => {
    const own = stanzas.find((stanza) => stanza.args[0] === 'ssh-ed25519' && stanza.args[1] === tag);
    if (own === undefined) return null;
    const share = parseShare(own);
    const shared = x25519Multiply(scalar, x25519Point(share));
    const secret = shared && x25519Multiply(tweakScalar, x25519Point(shared));
    const wrapKey = secret && deriveKey(secret, Buffer.concat([share, montgomery]), LABEL);
    const fileKey = wrapKey && openFileKey(own.body, wrapKey);
    if (fileKey === undefined) throw badStanza();
    return fileKey;
  };
}

function tweak(wire: Uint8Array): KeyObject {
  return x25519Scalar(deriveKey(Buffer.alloc(0), wire, LABEL));
}

function montgomeryPoint(point: Uint8Array): Buffer {
  try {
    return Buffer.from(ed25519.utils.toMontgomery(point));
  } catch {
    throw badPoint();
  }
}

function parseShare(stanza: Stanza): Buffer {
  const share = stanza.args.length === 3 ? parseBase64(stanza.args[2] ?? '') : undefined;
  if (share?.length !== 32 || stanza.body.length !== WRAPPED_FILE_KEY_BYTES) throw badStanza();
  return share;
}

function badPoint(): SlipwayError {
  return new SlipwayError('invalid', 'The ssh-ed25519 key is not a valid point of the curve.', {
    next: 'Copy the whole line of the .pub file.',
  });
}

/** The tag says the stanza is ours, and yet it does not open: damage or forgery, never to be passed over. */
function badStanza(): SlipwayError {
  return new SlipwayError('invalid', 'The stanza of this ssh-ed25519 key does not open.');
}
