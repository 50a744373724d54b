// The inner loop of cutting, in WebAssembly: twice as fast as JavaScript, which checks two bounds for each byte.
// The module is put together here, byte by byte (WebAssembly Core Specification 2.0, chapter 5), so that it needs no other
// toolchain and can be read. Its memory: the gear table, 4 bytes an entry, and behind it a window that bytes are copied into.

const TABLE_BYTES = 256 * 4;
const PAGE_BYTES = 64 * 1024;
/** A turn of the loop takes so many bytes; even. */
const UNROLLED = 8;

/** What is used of the WebAssembly JavaScript interface. */
interface Wasm {
  readonly Memory: new (size: { readonly initial: number; readonly maximum: number }) => {
    readonly buffer: ArrayBuffer;
  };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (
    module: object,
    imports: Readonly<Record<string, Readonly<Record<string, object>>>>,
  ) => { readonly exports: Readonly<Record<string, unknown>> };
}

const wasm = (globalThis as unknown as { readonly WebAssembly: Wasm }).WebAssembly;

type Scan = (from: number, to: number, hash: number, limit: number) => number;

export class GearScan {
  readonly #window: Uint8Array;
  readonly #scan: Scan;

  /** `windowBytes`: most bytes of a scan. */
  constructor(gear: Int32Array, windowBytes: number) {
    const pages = Math.ceil((TABLE_BYTES + windowBytes) / PAGE_BYTES);
    const memory = new wasm.Memory({ initial: pages, maximum: pages });
    new Int32Array(memory.buffer, 0, gear.length).set(gear);
    this.#window = new Uint8Array(memory.buffer, TABLE_BYTES, windowBytes);
    const module = new wasm.Module(moduleBytes(pages));
    const { exports } = new wasm.Instance(module, { m: { m: memory } });
    this.#scan = exports['s'] as Scan;
  }

  /**
   * How many of `bytes` it takes until the hash, shifted left by one and increased by a byte's gear each time, is less
   * than `limit` (below 2^31); -1 when it never is. `hash` is that of the bytes before.
   */
  find(bytes: Uint8Array, hash: number, limit: number): number {
    this.#window.set(bytes);
    const end = this.#scan(TABLE_BYTES, TABLE_BYTES + bytes.length, hash, limit);
    return end < 0 ? -1 : end - TABLE_BYTES;
  }
}

const MAGIC_AND_VERSION = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const I32 = 0x7f;

/** Instructions of 32-bit numbers, all unsigned, and the function's parameters and variables. Any other word is a number below 64. */
const WORDS: Readonly<Record<string, readonly number[]>> = {
  block: [0x02, 0x40],
  loop: [0x03, 0x40],
  end: [0x0b],
  br: [0x0c],
  'br-if': [0x0d],
  return: [0x0f],
  get: [0x20],
  set: [0x21],
  load: [0x28, 2, 0],
  'load-byte': [0x2d, 0], // its offset follows
  const: [0x41],
  '-1': [0x7f],
  '>': [0x4b],
  '>=': [0x4f],
  '+': [0x6a],
  '<<': [0x74],
  at: [0],
  to: [1],
  hash: [2],
  limit: [3],
  gear: [4],
  first: [5],
};

function moduleBytes(pages: number): Uint8Array<ArrayBuffer> {
  const name = [1, 0x6d]; // "m"
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(1, [1, 0x60, 4, I32, I32, I32, I32, 1, I32]), // the type of the function
    ...section(2, [1, ...name, ...name, 0x02, 0x01, ...unsigned(pages), ...unsigned(pages)]), // the memory
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x73, 0x00, 0]), // "s"
    ...section(10, [1, ...sized([1, 2, I32, ...assemble(FUNCTION)])]), // two variables
  ]);
}

function assemble(text: string): number[] {
  return text
    .trim()
    .split(/\s+/)
    .flatMap((word) => WORDS[word] ?? [Number(word)]);
}

/** `gear[bytes[at + n]]` */
const gearAt = (n: number): string => `get at load-byte ${n} const 2 << load`;

/** `if (hash < limit) return at + n` */
const returnIfLess = (hash: string, n: number): string =>
  `block get ${hash} get limit >= br-if 0 get at const ${n} + return end`;

/**
 * Two bytes at once: `hash << 2` does not wait for what comes between, which halves the time.
 * `gear = …; first = (hash << 1) + gear; hash = (hash << 2) + (gear << 1) + …`
 */
const twoBytes = (n: number): string => `
  ${gearAt(n)} set gear
  get hash const 2 << get gear const 1 << + ${gearAt(n + 1)} +
  get hash const 1 << get gear + set first set hash
  ${returnIfLess('first', n + 1)}
  ${returnIfLess('hash', n + 2)}`;

const oneByte = `
  get hash const 1 << ${gearAt(0)} + set hash
  ${returnIfLess('hash', 1)}`;

/** `while (!isOver) { body; at += step }` */
const loop = (isOver: string, body: string, step: number): string => `
  block loop
    ${isOver} br-if 1
    ${body}
    get at const ${step} + set at
    br 0
  end end`;

const turn = Array.from({ length: UNROLLED / 2 }, (_, n) => twoBytes(2 * n)).join('');

/** Whole turns, then single bytes. Answers with what is left on the stack, or returns from a turn. */
const FUNCTION = `
  ${loop(`get at const ${UNROLLED} + get to >`, turn, UNROLLED)}
  ${loop('get at get to >=', oneByte, 1)}
  const -1 end`;

function section(id: number, contents: readonly number[]): number[] {
  return [id, ...sized(contents)];
}

function sized(contents: readonly number[]): number[] {
  return [...unsigned(contents.length), ...contents];
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}
