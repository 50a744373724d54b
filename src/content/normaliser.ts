// Takes out of a stream what a rebuild changes although nothing else does: store paths' hashes and names, and the
// build-ids of ELF files (GNU note type 3). What remains is the same in every rebuild, so it is stored once; what was
// taken out is kept in the recipe. Works on any bytes and needs no list of references: a NAR arrives before its narinfo.
// facts: a mass rebuild of 1.2 GB costs 74 MB in plain chunks, under 1 MB like this.

/** Recorded in every recipe that uses it; what is found and what it is replaced by never change under one number. */
export const NORMALISER_VERSION = 1;

/** Takes the place of every byte taken out. */
export const FILLER = 0x65;

const STORE_PREFIX = Buffer.from('/nix/store/');
const HASH_CHARACTERS = 32;
const MOST_NAME = 211; // as Nix allows
const BUILD_ID_NOTE = Buffer.from('040000001400000003000000474e5500', 'hex'); // sizes 4 and 20, type 3, "GNU"
const BUILD_ID_BYTES = 20;

/** What is searched for, by a short part of it: Node finds fewer than eight bytes three times as fast as more. */
interface Mark {
  readonly whole: Buffer;
  readonly part: Buffer;
  readonly partAt: number;
}

const STORE_MARK: Mark = { whole: STORE_PREFIX, part: Buffer.from('/store/'), partAt: 4 };
const BUILD_ID_MARK: Mark = { whole: BUILD_ID_NOTE, part: Buffer.from('GNU\0'), partAt: 12 };

/** So many bytes after the start of a find decide where it ends. */
export const LOOK_AHEAD: number = STORE_PREFIX.length + HASH_CHARACTERS + 1 + MOST_NAME + 1;

/** Bytes that were taken out. */
export interface Taken {
  /** Place in the whole stream. */
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface NormalisedBytes {
  readonly bytes: Buffer;
  /** In order; each lies within `bytes` as a whole. */
  readonly taken: readonly Taken[];
}

/** Push interface: the results concatenate to the stream, with filler where something was taken out. */
export class Normaliser {
  #held: Buffer = Buffer.alloc(0);
  #offset = 0; // of #held in the stream

  push(bytes: Uint8Array): NormalisedBytes {
    return this.#take(Buffer.concat([this.#held, bytes]), LOOK_AHEAD);
  }

  end(): NormalisedBytes {
    return this.#take(this.#held, 0);
  }

  /** Normalises `all` but for its last `keep` bytes, which may belong to a find that is not over. */
  #take(all: Buffer, keep: number): NormalisedBytes {
    const { end, taken } = normaliseInPlace(all, keep, this.#offset);
    this.#held = Buffer.from(all.subarray(end));
    this.#offset += end;
    return { bytes: all.subarray(0, end), taken };
  }
}

/**
 * Puts filler into `bytes`, a part of a stream that begins at `offset`, up to `end`. The rest, `keep` bytes or fewer, may
 * belong to a find that is not over: it is to be given again, with what follows.
 */
export function normaliseInPlace(
  bytes: Buffer,
  keep: number,
  offset: number,
): { readonly end: number; readonly taken: readonly Taken[] } {
  const settled = bytes.length - keep;
  const finds = findAll(bytes, settled);
  const end = Math.max(0, settled, finds.at(-1)?.end ?? 0);
  const taken = finds.map((find) => ({
    offset: offset + find.start,
    bytes: Buffer.from(bytes.subarray(find.start, find.end)),
  }));
  for (const find of finds) bytes.fill(FILLER, find.start, find.end);
  return { end, taken };
}

interface Find {
  /** Where the mark that led to it begins. */
  readonly from: number;
  readonly start: number;
  readonly end: number;
}

/**
 * What begins before `settled`, in order and without overlaps. A mark that an earlier find took out is no mark: in a
 * stream that arrives in pieces it may be gone already.
 */
function findAll(bytes: Buffer, settled: number): Find[] {
  const finds = [...findStorePaths(bytes, settled), ...findBuildIds(bytes, settled)];
  finds.sort((a, b) => a.from - b.from);
  let end = 0;
  return finds.filter((find) => {
    if (find.from < end) return false;
    end = find.end;
    return true;
  });
}

function* findStorePaths(bytes: Buffer, settled: number): Generator<Find> {
  for (let at = indexOfMark(bytes, STORE_MARK, 0); at !== -1 && at < settled;) {
    const start = at + STORE_PREFIX.length;
    const end = endOfBaseName(bytes, start);
    if (end !== undefined) yield { from: at, start, end };
    at = indexOfMark(bytes, STORE_MARK, end ?? start);
  }
}

/** Where `<32 characters of a hash>-<name>` ends; `undefined` when it is none. */
function endOfBaseName(bytes: Buffer, start: number): number | undefined {
  const dash = start + HASH_CHARACTERS;
  if (bytes[dash] !== 0x2d) return undefined;
  for (let at = start; at < dash; at++) if (!isHashCharacter(bytes[at] ?? 0)) return undefined;
  const last = Math.min(bytes.length, dash + 1 + MOST_NAME);
  let end = dash + 1;
  while (end < last && isNameCharacter(bytes[end] ?? 0)) end++;
  return end;
}

function* findBuildIds(bytes: Buffer, settled: number): Generator<Find> {
  for (let at = indexOfMark(bytes, BUILD_ID_MARK, 0); at !== -1 && at < settled;) {
    const start = at + BUILD_ID_NOTE.length;
    const end = start + BUILD_ID_BYTES;
    if (end <= bytes.length) yield { from: at, start, end };
    at = indexOfMark(bytes, BUILD_ID_MARK, start);
  }
}

/** Where `whole` begins at or after `from`; -1 when it does not. */
function indexOfMark(bytes: Buffer, { whole, part, partAt }: Mark, from: number): number {
  for (let at = from - 1; ;) {
    at = bytes.indexOf(part, at + 1 + partAt) - partAt;
    if (at < 0) return -1;
    if (whole.equals(bytes.subarray(at, at + whole.length))) return at;
  }
}

const HASH_CHARACTER = characterSet('0123456789abcdfghijklmnpqrsvwxyz');
const NAME_CHARACTER = characterSet('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-._?=');

function isHashCharacter(byte: number): boolean {
  return HASH_CHARACTER[byte] === 1;
}

function isNameCharacter(byte: number): boolean {
  return NAME_CHARACTER[byte] === 1;
}

function characterSet(characters: string): Uint8Array {
  const set = new Uint8Array(256);
  for (const byte of Buffer.from(characters)) set[byte] = 1;
  return set;
}
