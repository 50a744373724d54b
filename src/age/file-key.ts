// How a stanza's wrap key hides the file key (C2SP age.md): HKDF-SHA-256 for the wrap key, then
// ChaCha20-Poly1305 with a zero nonce, which is safe because each wrap key is used once.
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';

const NONCE = Buffer.alloc(12);
const TAG_BYTES = 16;
export const FILE_KEY_BYTES = 16;
export const WRAPPED_FILE_KEY_BYTES = FILE_KEY_BYTES + TAG_BYTES;

export function deriveKey(secret: Uint8Array, salt: Uint8Array, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, salt, info, 32));
}

export function sealFileKey(fileKey: Uint8Array, wrapKey: Uint8Array): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', wrapKey, NONCE, { authTagLength: TAG_BYTES });
  return Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
}

/** The file key, or undefined when the body was not sealed with this key. */
export function openFileKey(body: Uint8Array, wrapKey: Uint8Array): Buffer | undefined {
  if (body.length !== WRAPPED_FILE_KEY_BYTES) return undefined;
  const decipher = createDecipheriv('chacha20-poly1305', wrapKey, NONCE, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(body.subarray(FILE_KEY_BYTES));
  try {
    return Buffer.concat([decipher.update(body.subarray(0, FILE_KEY_BYTES)), decipher.final()]);
  } catch {
    return undefined;
  }
}
