// OpenSSH public key lines, `type base64 [comment]`, and what age needs of them: the wire form, the tag that names
// the key in a stanza (first 4 bytes of its SHA-256), and the fingerprint as `ssh-keygen -l` prints it.
import { createHash } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { formatBase64 } from './base64.ts';
import { SshWireReader } from './ssh-wire.ts';

interface SshKeyBase {
  /** `type base64` without comment: equal texts are equal keys. */
  readonly text: string;
  /** SSH wire form. */
  readonly wire: Buffer;
  readonly tag: string;
  /** `SHA256:…` */
  readonly fingerprint: string;
}

export type SshPublicKey =
  | (SshKeyBase & { readonly type: 'ssh-ed25519'; readonly point: Buffer })
  | (SshKeyBase & {
      readonly type: 'ssh-rsa';
      readonly modulus: Buffer;
      readonly exponent: Buffer;
      readonly bits: number;
    });

// age refuses shorter RSA keys; the upper bound keeps a hostile key from eating the processor.
const RSA_MIN_BITS = 2048;
const RSA_MAX_BITS = 16_384;

/** Parses one line. Fails with `invalid` for a type that age cannot encrypt to, saying which would do. */
export function parseSshPublicKey(line: string): SshPublicKey {
  const [type = '', blob = ''] = line.trim().split(/[ \t]+/);
  if (type !== 'ssh-ed25519' && type !== 'ssh-rsa') throw unsupportedType(type);
  return readSshPublicKey(readBlob(blob));
}

/** Parses the wire form, as it also stands in private keys. */
export function readSshPublicKey(wire: Buffer): SshPublicKey {
  const reader = new SshWireReader(wire);
  const type = reader.text();
  const digest = createHash('sha256').update(wire).digest();
  const base = {
    text: `${type} ${wire.toString('base64')}`,
    wire,
    tag: formatBase64(digest.subarray(0, 4)),
    fingerprint: `SHA256:${formatBase64(digest)}`,
  };
  if (type === 'ssh-ed25519') return { ...base, type, point: readPoint(reader) };
  if (type === 'ssh-rsa') return { ...base, type, ...readRsa(reader) };
  throw unsupportedType(type);
}

function readBlob(blob: string): Buffer {
  const bytes = Buffer.from(blob, 'base64');
  const spelled = bytes.toString('base64');
  if (bytes.length > 0 && (spelled === blob || spelled.replace(/=+$/, '') === blob)) return bytes;
  throw new SlipwayError('invalid', 'The SSH public key is not valid base64.', {
    next: 'Copy the whole line of the .pub file.',
  });
}

function readPoint(reader: SshWireReader): Buffer {
  const point = reader.string();
  reader.end();
  if (point.length === 32) return point;
  throw new SlipwayError('invalid', `The ssh-ed25519 key has ${point.length} bytes instead of 32.`);
}

function readRsa(reader: SshWireReader): { modulus: Buffer; exponent: Buffer; bits: number } {
  const exponent = reader.positive();
  const modulus = reader.positive();
  reader.end();
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS) {
    throw new SlipwayError(
      'invalid',
      `The ssh-rsa key has ${bits} bits; age needs at least ${RSA_MIN_BITS}.`,
      {
        next: 'Use an ssh-ed25519 key.',
      },
    );
  }
  return { modulus, exponent, bits };
}

function unsupportedType(type: string): SlipwayError {
  const named = /^(ecdsa-sha2-|sk-|ssh-dss)[\w@.-]*$/.test(type) ? `An ${type} key` : 'This key';
  return new SlipwayError('invalid', `${named} cannot receive age files: only ssh-ed25519 and ssh-rsa can.`, {
    next: 'Use the ssh-ed25519 key, on a host /etc/ssh/ssh_host_ed25519_key.pub.',
  });
}
