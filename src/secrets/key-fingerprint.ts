// A key's fingerprint, also of keys that this program cannot encrypt to (hardware keys, plugins): for lists of who may.
import { createHash } from 'node:crypto';

const SSH_LINE = /^(?:[a-z0-9-]+(?:@[a-z0-9.-]+)?)\s+(AAAA[A-Za-z0-9+/]+={0,2})(?:\s|$)/;

/** `SHA256:…`: for ssh keys what `ssh-keygen -l` prints, for others the hash of their text. */
export function keyFingerprint(line: string): string {
  const text = line.trim();
  const blob = SSH_LINE.exec(text)?.[1];
  const bytes = blob === undefined ? Buffer.from(text.split(/\s/)[0] ?? '') : Buffer.from(blob, 'base64');
  return `SHA256:${createHash('sha256').update(bytes).digest('base64').replace(/=+$/, '')}`;
}
