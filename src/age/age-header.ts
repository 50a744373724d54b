// A strict reader of age headers without any key (C2SP age.md, "Header" and "ASCII armor"): what a file says about
// who can open it. Stricter than decryption needs, because it judges files before they are published.
import { armor } from 'age-encryption';
import { SlipwayError } from '../util/errors.ts';
import { formatBase64, parseBase64 } from './base64.ts';

export interface AgeStanza {
  readonly type: string;
  /** Arguments after the type. */
  readonly args: readonly string[];
  readonly body: Buffer;
}

export interface AgeHeader {
  readonly armored: boolean;
  readonly stanzas: readonly AgeStanza[];
  readonly mac: Buffer;
  /** Bytes of the header and of what follows it (nonce and chunks), both without armor. */
  readonly headerSize: number;
  readonly payloadSize: number;
}

const VERSION = 'age-encryption.org/v1';
const ARGUMENT = /^[\x21-\x7e]+$/;
const FULL_LINE = 64;
// Room for 20,000 recipients; a header without end must not fill memory.
const MAX_HEADER = 4 * 1024 * 1024;
// 16 bytes of nonce and at least the tag of one chunk.
const MIN_PAYLOAD = 32;

/** Parses the header of an age file, armored or not. Fails with `invalid`, naming what is wrong. */
export function parseAgeHeader(file: Uint8Array): AgeHeader {
  const armored = isArmored(file);
  const bytes = armored ? removeArmor(file) : Buffer.from(file.buffer, file.byteOffset, file.length);
  const lines = new HeaderLines(bytes);
  if (lines.next() !== VERSION) throw malformed('it does not begin with an age version line');
  const stanzas: AgeStanza[] = [];
  let line = lines.next();
  for (; line.startsWith('-> '); line = lines.next()) stanzas.push(parseStanza(line, lines));
  const mac = line.startsWith('--- ') ? parseBase64(line.slice(4)) : undefined;
  if (mac?.length !== 32) throw malformed('the header does not end in a MAC line');
  if (stanzas.length === 0) throw malformed('the header names no recipient');
  const payloadSize = bytes.length - lines.offset;
  if (payloadSize < MIN_PAYLOAD) throw malformed('the file ends before its content');
  return { armored, stanzas, mac, headerSize: lines.offset, payloadSize };
}

/** Whether the file is text in age's armor (which tools accept after white space). */
export function isArmored(file: Uint8Array): boolean {
  const start = Buffer.from(file.buffer, file.byteOffset, Math.min(file.length, 4096)).toString('latin1');
  return start.trimStart().startsWith('-----BEGIN');
}

/** The binary file inside the armor. Fails with `invalid` on anything but strict PEM with age's label. */
export function removeArmor(file: Uint8Array): Buffer {
  const text = Buffer.from(file.buffer, file.byteOffset, file.length).toString('latin1');
  try {
    if (/^[\t\n\r\x20-\x7e]*$/.test(text)) return Buffer.from(armor.decode(text));
  } catch {
    // said below
  }
  throw malformed('its armor is damaged');
}

/** The header's text again, without version and MAC lines: the inverse of parsing, for tests and listings. */
export function formatStanza(stanza: AgeStanza): string {
  const body = formatBase64(stanza.body);
  const full = body.match(/.{64}/g) ?? [];
  const last = body.slice(full.length * FULL_LINE);
  return [`-> ${[stanza.type, ...stanza.args].join(' ')}`, ...full, last, ''].join('\n');
}

function parseStanza(line: string, lines: HeaderLines): AgeStanza {
  const [type = '', ...args] = line.slice(3).split(' ');
  if (![type, ...args].every((arg) => ARGUMENT.test(arg))) {
    throw malformed('a recipient line has an empty or non-printable argument');
  }
  const parts: Buffer[] = [];
  for (;;) {
    const text = lines.next();
    const part = text.length <= FULL_LINE ? parseBase64(text) : undefined;
    if (part === undefined) throw malformed('the body of a recipient is not canonical base64 of 64 columns');
    parts.push(part);
    if (text.length < FULL_LINE) return { type, args, body: Buffer.concat(parts) };
  }
}

class HeaderLines {
  readonly #bytes: Buffer;
  offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  next(): string {
    const end = this.#bytes.indexOf(0x0a, this.offset);
    if (end === -1 || end > MAX_HEADER) throw malformed('its header has no end');
    const line = this.#bytes.toString('latin1', this.offset, end);
    this.offset = end + 1;
    return line;
  }
}

function malformed(reason: string): SlipwayError {
  return new SlipwayError('invalid', `This is not a valid age file: ${reason}.`, { facts: { reason } });
}
