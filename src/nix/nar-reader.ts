// A streaming reader of NAR archives that accepts exactly the grammar (Nix manual, "Nix Archive Format"; libutil/archive.cc)
// and nothing else: sorted unique names, zero padding, no trailing bytes. Memory does not grow with the archive.
import { SlipwayError } from '../util/errors.ts';

/**
 * What the reader tells while it reads. Paths are the components below the root, the root being `[]`; like data, they
 * are the reader's own and valid during the call only. Bytes that are not UTF-8 show as U+FFFD.
 */
export interface NarVisitor {
  enterDirectory?(path: readonly string[]): void;
  leaveDirectory?(path: readonly string[]): void;
  /** `offset` is where the contents begin in the NAR. */
  startFile?(path: readonly string[], facts: { size: number; executable: boolean; offset: number }): void;
  fileData?(chunk: Uint8Array): void;
  endFile?(): void;
  symlink?(path: readonly string[], target: string): void;
}

export interface NarLimits {
  readonly maxSize: number;
  readonly maxDepth: number;
}

const DEFAULT_LIMITS: NarLimits = { maxSize: Number.MAX_SAFE_INTEGER, maxDepth: 256 };
const MAX_NAME = 255; // NAME_MAX of every file system that a store lies on
const MAX_TARGET = 4095; // PATH_MAX without its NUL
/** Longest string that is read whole; only file contents may be longer. */
const MAX_TOKEN = 4096;

type Expect =
  | 'magic'
  | 'open'
  | 'type-key'
  | 'type'
  | 'file-key'
  | 'executable-value'
  | 'contents-key'
  | 'contents'
  | 'target-key'
  | 'target'
  | 'close'
  | 'entry-or-close'
  | 'entry-open'
  | 'name-key'
  | 'name'
  | 'node-key'
  | 'entry-close'
  | 'done';

interface Keyword {
  readonly word: string;
  readonly next: Expect;
}

/** The states in which exactly one string may come. */
const KEYWORDS: Readonly<Partial<Record<Expect, Keyword>>> = {
  magic: { word: 'nix-archive-1', next: 'open' },
  open: { word: '(', next: 'type-key' },
  'type-key': { word: 'type', next: 'type' },
  'executable-value': { word: '', next: 'contents-key' },
  'contents-key': { word: 'contents', next: 'contents' },
  'target-key': { word: 'target', next: 'target' },
  'entry-open': { word: '(', next: 'name-key' },
  'name-key': { word: 'name', next: 'name' },
  'node-key': { word: 'node', next: 'open' },
  'entry-close': { word: ')', next: 'entry-or-close' },
};

interface Directory {
  lastName: Uint8Array | undefined;
}

/** Feed bytes with `write`, finish with `end`. Both throw `nar_invalid`, naming the byte at which it went wrong. */
export class NarReader {
  readonly #visitor: NarVisitor;
  readonly #limits: NarLimits;
  readonly #directories: Directory[] = [];
  readonly #path: string[] = [];
  #expect: Expect = 'magic';
  #executable = false;
  #offset = 0;
  // The string that is being read: its length field, then its bytes, then its padding.
  readonly #lengthBytes = Buffer.alloc(8);
  #lengthHave = 0;
  #token: Buffer | undefined;
  #tokenHave = 0;
  #contentsLeft = 0;
  #inContents = false;
  #paddingLeft = 0;

  constructor(visitor: NarVisitor = {}, limits: Partial<NarLimits> = {}) {
    this.#visitor = visitor;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** Bytes read so far. */
  get size(): number {
    return this.#offset;
  }

  write(chunk: Uint8Array): void {
    if (this.#offset + chunk.length > this.#limits.maxSize)
      this.#fail(`it is larger than ${this.#limits.maxSize} bytes`);
    for (let at = 0; at < chunk.length;) {
      const used = this.#takeString(chunk, at) || this.#step(chunk, at);
      at += used;
      this.#offset += used;
    }
  }

  end(): void {
    if (this.#expect !== 'done') this.#fail('it ends too early');
  }

  /** Takes a string that lies whole in `bytes`, as nearly all but contents do, without copying it; 0 for any other. */
  #takeString(bytes: Uint8Array, at: number): number {
    if (!this.#atString || this.#expect === 'contents' || this.#expect === 'done') return 0;
    const start = at + 8;
    if (start > bytes.length) return 0;
    const length = readShortLength(bytes, at);
    const end = start + length;
    const next = end + ((8 - (length % 8)) % 8);
    if (length > MAX_TOKEN || next > bytes.length) return 0;
    for (let index = end; index < next; index++) if (bytes[index] !== 0) return 0;
    this.#accept(bytes, start, end);
    return next - at;
  }

  /** Nothing of the next string has been read. */
  get #atString(): boolean {
    return (
      this.#contentsLeft === 0 &&
      this.#paddingLeft === 0 &&
      this.#token === undefined &&
      this.#lengthHave === 0
    );
  }

  /** Consumes some of the bytes from `at` and tells how many. */
  #step(bytes: Uint8Array, at: number): number {
    if (this.#expect === 'done') this.#fail('bytes follow its end');
    if (this.#inContents && this.#contentsLeft > 0) return this.#takeContents(bytes, at);
    if (this.#paddingLeft > 0) return this.#takePadding(bytes, at);
    if (this.#token !== undefined) return this.#takeToken(bytes.subarray(at), this.#token);
    return this.#takeLength(bytes.subarray(at));
  }

  #takeLength(bytes: Uint8Array): number {
    const used = Math.min(8 - this.#lengthHave, bytes.length);
    this.#lengthBytes.set(bytes.subarray(0, used), this.#lengthHave);
    this.#lengthHave += used;
    if (this.#lengthHave < 8) return used;
    this.#lengthHave = 0;
    const length = this.#lengthBytes.readBigUInt64LE();
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) this.#fail('a length is absurd');
    this.#startString(Number(length), used);
    return used;
  }

  #startString(length: number, used: number): void {
    const padding = (8 - (length % 8)) % 8;
    if (this.#expect === 'contents') {
      if (length > this.#limits.maxSize) this.#fail('a file is larger than the whole may be');
      this.#inContents = true;
      this.#contentsLeft = length;
      this.#paddingLeft = padding;
      this.#visitor.startFile?.(this.#path, {
        size: length,
        executable: this.#executable,
        offset: this.#offset + used,
      });
      if (length === 0) this.#endContents();
      return;
    }
    if (length > MAX_TOKEN) this.#fail('a name or keyword is too long');
    this.#token = Buffer.alloc(length);
    this.#tokenHave = 0;
    this.#paddingLeft = 0;
    if (length === 0) this.#finishToken();
  }

  #takeToken(bytes: Uint8Array, token: Buffer): number {
    const used = Math.min(token.length - this.#tokenHave, bytes.length);
    token.set(bytes.subarray(0, used), this.#tokenHave);
    this.#tokenHave += used;
    if (this.#tokenHave === token.length) {
      this.#paddingLeft = (8 - (token.length % 8)) % 8;
      if (this.#paddingLeft === 0) this.#finishToken();
    }
    return used;
  }

  #takePadding(bytes: Uint8Array, at: number): number {
    const used = Math.min(this.#paddingLeft, bytes.length - at);
    for (let index = at; index < at + used; index++)
      if (bytes[index] !== 0) this.#fail('its padding is not zero');
    this.#paddingLeft -= used;
    if (this.#paddingLeft > 0) return used;
    if (this.#inContents) this.#endContents();
    else this.#finishToken();
    return used;
  }

  #takeContents(bytes: Uint8Array, at: number): number {
    const used = Math.min(this.#contentsLeft, bytes.length - at);
    this.#contentsLeft -= used;
    this.#visitor.fileData?.(bytes.subarray(at, at + used));
    if (this.#contentsLeft === 0 && this.#paddingLeft === 0) this.#endContents();
    return used;
  }

  #endContents(): void {
    this.#inContents = false;
    this.#visitor.endFile?.();
    this.#expect = 'close';
  }

  #finishToken(): void {
    const token = this.#token ?? Buffer.alloc(0);
    this.#token = undefined;
    this.#accept(token, 0, token.length);
  }

  /** The string from `start` to `end` of `bytes`, which are the caller's. */
  #accept(bytes: Uint8Array, start: number, end: number): void {
    const keyword = KEYWORDS[this.#expect];
    const is = (word: string): boolean => isWord(bytes, start, end, word);
    if (keyword !== undefined) {
      if (!is(keyword.word)) this.#fail(`"${keyword.word}" is missing`);
      this.#expect = keyword.next;
      return;
    }
    switch (this.#expect) {
      case 'type':
        return this.#startNode(is);
      case 'file-key':
        return this.#fileKey(is);
      case 'target':
        return this.#symlink(Buffer.from(bytes.subarray(start, end)));
      case 'close':
        return this.#closeNode(is);
      case 'entry-or-close':
        return this.#entryOrClose(is);
      case 'name':
        return this.#entryName(Buffer.from(bytes.subarray(start, end)));
      default:
        return this.#fail('a string stands where none may');
    }
  }

  #startNode(is: WordTest): void {
    if (is('regular')) {
      this.#executable = false;
      this.#expect = 'file-key';
    } else if (is('symlink')) {
      this.#expect = 'target-key';
    } else if (is('directory')) {
      if (this.#directories.length >= this.#limits.maxDepth) this.#fail('its directories nest too deeply');
      this.#directories.push({ lastName: undefined });
      this.#visitor.enterDirectory?.(this.#path);
      this.#expect = 'entry-or-close';
    } else this.#fail('a node has an unknown type');
  }

  /** A file may leave out its contents: Nix reads that as an empty file but never writes it; we refuse it. */
  #fileKey(is: WordTest): void {
    if (is('executable')) {
      this.#executable = true;
      this.#expect = 'executable-value';
    } else if (is('contents')) this.#expect = 'contents';
    else this.#fail('a file has an unknown field');
  }

  #symlink(target: Buffer): void {
    if (target.length === 0 || target.length > MAX_TARGET || target.includes(0))
      this.#fail('a symlink has a bad target');
    this.#visitor.symlink?.(this.#path, target.toString());
    this.#expect = 'close';
  }

  #entryOrClose(is: WordTest): void {
    if (is('entry')) this.#expect = 'entry-open';
    else if (is(')')) {
      this.#directories.pop();
      this.#visitor.leaveDirectory?.(this.#path);
      this.#closeNode(is);
    } else this.#fail('a directory holds something other than entries');
  }

  #entryName(name: Buffer): void {
    if (!isFileName(name)) this.#fail('an entry has a forbidden name');
    const directory = this.#directories.at(-1);
    if (directory === undefined) return this.#fail('an entry stands outside a directory');
    if (directory.lastName !== undefined && Buffer.compare(directory.lastName, name) >= 0) {
      this.#fail('its entries are not sorted');
    }
    directory.lastName = name;
    this.#path.push(name.toString());
    this.#expect = 'node-key';
  }

  #closeNode(is: WordTest): void {
    if (!is(')')) this.#fail('a node does not end');
    if (this.#directories.length === 0) {
      this.#expect = 'done';
      return;
    }
    this.#path.pop();
    this.#expect = 'entry-close';
  }

  #fail(why: string): never {
    throw new SlipwayError('nar_invalid', `The NAR is refused at byte ${this.#offset}: ${why}.`);
  }
}

/** Whether the string at hand is this word. */
type WordTest = (word: string) => boolean;

function isWord(bytes: Uint8Array, start: number, end: number, word: string): boolean {
  if (end - start !== word.length) return false;
  for (let index = 0; index < word.length; index++)
    if (bytes[start + index] !== word.charCodeAt(index)) return false;
  return true;
}

/** The length of 8 bytes at `at`; MAX_TOKEN + 1 when it is any larger. */
function readShortLength(bytes: Uint8Array, at: number): number {
  for (let index = 2; index < 8; index++) if (bytes[at + index] !== 0) return MAX_TOKEN + 1;
  return (bytes[at] as number) + 256 * (bytes[at + 1] as number);
}

function isFileName(name: Buffer): boolean {
  if (name.length === 0 || name.length > MAX_NAME) return false;
  if (name.includes(0) || name.includes(0x2f)) return false;
  const text = name.toString('latin1');
  return text !== '.' && text !== '..';
}
