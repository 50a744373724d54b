// Changes inputs: bytes as they are, words of the format, and, for JSON, its values. All of it follows from `random`.

type Random = () => number;

const INTERESTING = [0, 1, 2, 7, 8, 15, 16, 31, 32, 127, 128, 255, 256, 4095, 65_535, 65_536];
const NUMBERS = ['0', '-1', '9007199254740993', '18446744073709551616', '1e999', '00', '0x10', '٣'];
export const LARGEST_INPUT = 128 * 1024;

export interface MutationOptions {
  readonly random: Random;
  readonly corpus: readonly Buffer[];
  readonly words: readonly string[];
  readonly json: boolean;
}

export function mutate(input: Buffer, options: MutationOptions): Buffer {
  const { random } = options;
  let bytes = input;
  for (let rounds = 1 + below(random, 4); rounds > 0; rounds--) {
    const change = options.json && random() < 0.5 ? mutateJson : pick(random, CHANGES);
    bytes = change(bytes, options);
  }
  return bytes.length > LARGEST_INPUT ? bytes.subarray(0, LARGEST_INPUT) : bytes;
}

type Change = (bytes: Buffer, options: MutationOptions) => Buffer;

const CHANGES: readonly Change[] = [
  (bytes, { random }) => withByte(bytes, random, (byte) => byte ^ (1 << below(random, 8))),
  (bytes, { random }) => withByte(bytes, random, () => pick(random, INTERESTING) & 0xff),
  (bytes, { random }) => withByte(bytes, random, (byte) => byte + pick(random, [-1, 1])),
  (bytes, { random }) => bytes.subarray(0, below(random, bytes.length + 1)),
  (bytes, { random }) => cut(bytes, span(bytes, random)),
  (bytes, { random }) => {
    const { from, to } = span(bytes, random);
    return splice(bytes, below(random, bytes.length + 1), bytes.subarray(from, to));
  },
  (bytes, { random }) => {
    const { from, to } = span(bytes, random);
    const times = Math.min(1 + below(random, 2000), Math.floor(LARGEST_INPUT / Math.max(1, to - from)));
    return splice(bytes, to, Buffer.concat(Array<Buffer>(times).fill(bytes.subarray(from, to))));
  },
  (bytes, { random, corpus }) => {
    const other = pick(random, corpus);
    const { from, to } = span(other, random);
    return splice(bytes, below(random, bytes.length + 1), other.subarray(from, to));
  },
  (bytes, { random, words }) =>
    splice(
      bytes,
      below(random, bytes.length + 1),
      Buffer.from(pick(random, words.length > 0 ? words : NUMBERS)),
    ),
  (bytes, { random }) => {
    const value = Buffer.alloc(8);
    value.writeBigUInt64LE(BigInt(pick(random, [...INTERESTING, 2 ** 31, 2 ** 32, 2 ** 53])));
    return overwrite(bytes, below(random, bytes.length + 1), random() < 0.5 ? value : value.subarray(0, 4));
  },
  (bytes, { random }) => {
    const text = bytes.toString('latin1');
    const numbers = [...text.matchAll(/\d+/g)];
    const found = numbers[below(random, numbers.length)];
    if (found === undefined) return bytes;
    const end = found.index + found[0].length;
    return Buffer.from(text.slice(0, found.index) + pick(random, NUMBERS) + text.slice(end), 'latin1');
  },
];

/** Changes one value of a JSON text, or leaves what is none. */
function mutateJson(bytes: Buffer, { random, words }: MutationOptions): Buffer {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString());
  } catch {
    return bytes;
  }
  const odd: readonly unknown[] = [
    null,
    true,
    0,
    -1,
    1.5,
    1e308,
    '',
    'a'.repeat(5000),
    '\u0000',
    '\ud800',
    '../..',
    [],
    {},
    [[]],
    { __proto__: 1 },
    ...words,
  ];
  const changed = changeValue(value, random, odd);
  return Buffer.from(JSON.stringify(changed) ?? 'null');
}

function changeValue(value: unknown, random: Random, odd: readonly unknown[]): unknown {
  if (random() < 0.2 || typeof value !== 'object' || value === null) return pick(random, odd);
  if (Array.isArray(value)) {
    const list: unknown[] = [...value];
    const at = below(random, list.length + 1);
    if (random() < 0.3) list.splice(at, 1);
    else list[at] = changeValue(list[at], random, odd);
    return list;
  }
  const entries = Object.entries(value);
  const at = below(random, entries.length);
  const entry = entries[at];
  if (entry === undefined || random() < 0.1)
    return { ...value, [String(pick(random, odd))]: pick(random, odd) };
  if (random() < 0.2) return Object.fromEntries(entries.filter((one) => one !== entry));
  return { ...value, [entry[0]]: changeValue(entry[1], random, odd) };
}

function withByte(bytes: Buffer, random: Random, change: (byte: number) => number): Buffer {
  if (bytes.length === 0) return Buffer.from([below(random, 256)]);
  const copy = Buffer.from(bytes);
  const at = below(random, copy.length);
  copy[at] = change(copy[at] ?? 0) & 0xff;
  return copy;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

function span(bytes: Buffer, random: Random): Span {
  const from = below(random, bytes.length);
  return { from, to: Math.min(bytes.length, from + 1 + below(random, 64)) };
}

function cut(bytes: Buffer, { from, to }: Span): Buffer {
  return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
}

function splice(bytes: Buffer, at: number, insert: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at)]);
}

function overwrite(bytes: Buffer, at: number, value: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), value, bytes.subarray(at + value.length)]);
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * Math.max(0, limit));
}

function pick<T>(random: Random, list: readonly T[]): T {
  return list[below(random, list.length)] as T;
}
