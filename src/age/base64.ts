// Unpadded canonical base64 as age headers use it (C2SP age.md): one spelling for each value, any other is refused.

const ALPHABET = /^[A-Za-z0-9+/]*$/;

export function formatBase64(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
  const padding = text.indexOf('=');
  return padding === -1 ? text : text.slice(0, padding);
}

/** The bytes, or undefined for padding, foreign characters, an impossible length, or stray low bits. */
export function parseBase64(text: string): Buffer | undefined {
  if (text.length % 4 === 1 || !ALPHABET.test(text)) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return formatBase64(bytes) === text ? bytes : undefined;
}
