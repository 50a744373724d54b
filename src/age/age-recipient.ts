// Who an age file can be written to. One parser for all spellings: `ssh-ed25519 …`, `ssh-rsa …`, `age1…`,
// `age1pq1…` and the public halves of hardware keys (`age1tag1…`, `age1tagpq1…`).
import { createHash } from 'node:crypto';
import { bech32 } from '@scure/base';
import { Encrypter, Stanza, type Recipient } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { formatBase64 } from './base64.ts';
import { deriveKey, sealFileKey } from './file-key.ts';
import { sshEd25519Wrapper } from './ssh-ed25519.ts';
import { parseSshPublicKey } from './ssh-public-key.ts';
import { sshRsaWrapper } from './ssh-rsa.ts';
import { x25519Ephemeral, x25519Multiply, x25519Point } from './x25519.ts';

/** Stanza types that a recipient can leave in a header. */
export type AgeRecipientType =
  | 'ssh-ed25519'
  | 'ssh-rsa'
  | 'X25519'
  | 'mlkem768x25519'
  | 'p256tag'
  | 'mlkem768p256tag';

export interface AgeRecipient {
  readonly type: AgeRecipientType;
  /** The key without its comment: equal texts are equal recipients. */
  readonly text: string;
  /** `SHA256:…`; for SSH keys the same as `ssh-keygen -l` prints. */
  readonly fingerprint: string;
  /** The argument that names this key in a stanza. Only SSH keys are named; the others stay anonymous. */
  readonly tag: string | undefined;
  /** What `age-encryption` takes: a text that it knows itself, or the code that writes the stanza. */
  readonly writer: string | Recipient;
}

/** Parses a recipient. Fails with `invalid` when age cannot write to it. */
export function parseAgeRecipient(text: string): AgeRecipient {
  const trimmed = text.trim();
  return trimmed.startsWith('age1') ? parseNative(trimmed) : parseSsh(trimmed);
}

/** Whether files for both may exist: post-quantum recipients do not mix with others, which would undo them. */
export function isPostQuantum(recipient: AgeRecipient): boolean {
  return recipient.type === 'mlkem768x25519' || recipient.type === 'mlkem768p256tag';
}

function parseSsh(line: string): AgeRecipient {
  const key = parseSshPublicKey(line);
  const wrap = key.type === 'ssh-ed25519' ? sshEd25519Wrapper(key) : sshRsaWrapper(key);
  return {
    type: key.type,
    text: key.text,
    fingerprint: key.fingerprint,
    tag: key.tag,
    writer: { wrapFileKey: wrap },
  };
}

const NATIVE: readonly (readonly [prefix: string, type: AgeRecipientType])[] = [
  ['age1pq1', 'mlkem768x25519'],
  ['age1tagpq1', 'mlkem768p256tag'],
  ['age1tag1', 'p256tag'],
];

function parseNative(text: string): AgeRecipient {
  const type = NATIVE.find(([prefix]) => text.startsWith(prefix))?.[1] ?? 'X25519';
  return {
    type,
    text,
    fingerprint: `SHA256:${formatBase64(createHash('sha256').update(text).digest())}`,
    tag: undefined,
    writer: type === 'X25519' ? x25519Writer(decodeX25519(text)) : checkedByLibrary(text),
  };
}

/** The stanza of age.md's section "X25519", over OpenSSL: five times faster than the library's for many recipients. */
function x25519Writer(point: Buffer): Recipient {
  const target = x25519Point(point);
  const wrapFileKey = (fileKey: Uint8Array): Stanza[] => {
    const { scalar, share } = x25519Ephemeral();
    const secret = x25519Multiply(scalar, target);
    if (secret === undefined) throw notARecipient();
    const wrapKey = deriveKey(secret, Buffer.concat([share, point]), 'age-encryption.org/v1/X25519');
    return [new Stanza(['X25519', formatBase64(share)], sealFileKey(fileKey, wrapKey))];
  };
  return { wrapFileKey };
}

function decodeX25519(text: string): Buffer {
  try {
    const { prefix, bytes } = bech32.decodeToBytes(text);
    const point = Buffer.from(bytes);
    const { scalar } = x25519Ephemeral();
    const usable = x25519Multiply(scalar, x25519Point(point)) !== undefined;
    if (prefix === 'age' && point.length === 32 && usable) return point;
  } catch {
    // said below
  }
  throw notARecipient();
}

/** The library takes these as text; here it only says whether the text is right. */
function checkedByLibrary(text: string): string {
  try {
    new Encrypter().addRecipient(text);
    return text;
  } catch {
    throw notARecipient();
  }
}

function notARecipient(): SlipwayError {
  return new SlipwayError('invalid', 'This is not an age recipient that can be written to.', {
    next: 'Use age1…, age1pq1…, age1tag1…, "ssh-ed25519 …" or "ssh-rsa …"; plugin recipients need the age program.',
  });
}
