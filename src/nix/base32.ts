// Nix's base32: an alphabet without e, o, t and u, bits taken from the end of the bytes (libutil/hash.cc printHash32).
import { SlipwayError } from '../util/errors.ts';

const ALPHABET = '0123456789abcdfghijklmnpqrsvwxyz';
const VALUES: ReadonlyMap<string, number> = new Map(Array.from(ALPHABET, (char, value) => [char, value]));

/** Characters that `byteLength` bytes take in Nix base32. */
export function base32Length(byteLength: number): number {
  return Math.ceil((byteLength * 8) / 5);
}

export function formatBase32(bytes: Uint8Array): string {
  let text = '';
  for (let n = base32Length(bytes.length) - 1; n >= 0; n--) {
    const bit = n * 5;
    const index = bit >> 3;
    const shift = bit & 7;
    const value = ((bytes[index] ?? 0) >> shift) | ((bytes[index + 1] ?? 0) << (8 - shift));
    text += ALPHABET[value & 31];
  }
  return text;
}

/** Inverse of `formatBase32`; `byteLength` tells how many bytes the text stands for. Throws `invalid`. */
export function parseBase32(text: string, byteLength: number): Uint8Array {
  if (text.length !== base32Length(byteLength)) throw malformed(text);
  const bytes = new Uint8Array(byteLength);
  for (let n = 0; n < text.length; n++) {
    const value = VALUES.get(text[text.length - n - 1] ?? '');
    if (value === undefined) throw malformed(text);
    placeBits(bytes, n * 5, value, text);
  }
  return bytes;
}

function placeBits(bytes: Uint8Array, bit: number, value: number, text: string): void {
  const index = bit >> 3;
  const shift = bit & 7;
  bytes[index] = (bytes[index] ?? 0) | ((value << shift) & 0xff);
  const carry = value >> (8 - shift);
  if (carry === 0) return;
  // Bits beyond the last byte must be zero: the text has exactly one spelling.
  if (index + 1 >= bytes.length) throw malformed(text);
  bytes[index + 1] = (bytes[index + 1] ?? 0) | carry;
}

function malformed(text: string): SlipwayError {
  return new SlipwayError('invalid', `"${text.slice(0, 120)}" is not Nix base32 of the expected length.`);
}
