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
const NO_RESULT = 0x40;
const OP = {
  block: 0x02,
  loop: 0x03,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  return: 0x0f,
  get: 0x20,
  set: 0x21,
  load: 0x28,
  load8: 0x2d,
  const: 0x41,
  greaterUnsigned: 0x4b,
  greaterOrEqualUnsigned: 0x4f,
  add: 0x6a,
  shiftLeft: 0x74,
} as const;
/** Parameters of the function. */
const [AT, TO, HASH, LIMIT] = [0, 1, 2, 3] as const;
/** Its variables. */
const [GEAR, FIRST] = [4, 5] as const;
const MINUS_ONE = 0x7f;

function moduleBytes(pages: number): Uint8Array<ArrayBuffer> {
  const name = [1, 0x6d]; // "m"
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(1, [1, 0x60, 4, I32, I32, I32, I32, 1, I32]), // the type of the function
    ...section(2, [1, ...name, ...name, 0x02, 0x01, ...unsigned(pages), ...unsigned(pages)]), // the memory
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x73, 0x00, 0]), // "s"
    ...section(10, [1, ...sized([1, 2, I32, ...functionBody(), OP.end])]),
  ]);
}

/** Whole turns, then single bytes. Answers with what is left on the stack, or returns from a turn. */
function functionBody(): number[] {
  const turns = loop(
    code(OP.get, AT, OP.const, UNROLLED, OP.add, OP.get, TO, OP.greaterUnsigned),
    Array.from({ length: UNROLLED / 2 }, (_, n) => stepTwice(2 * n)).flat(),
    UNROLLED,
  );
  const singles = loop(
    code(OP.get, AT, OP.get, TO, OP.greaterOrEqualUnsigned),
    [
      ...code(OP.get, HASH, OP.const, 1, OP.shiftLeft),
      ...gearAt(0),
      OP.add,
      OP.set,
      HASH,
      ...returnIfLess(1),
    ],
    1,
  );
  return [...turns, ...singles, OP.const, MINUS_ONE];
}

/** `while (!isOver) { body; at += step }` */
function loop(isOver: readonly number[], body: readonly number[], step: number): number[] {
  return code(
    OP.block,
    NO_RESULT,
    OP.loop,
    NO_RESULT,
    ...isOver,
    OP.brIf,
    1,
    ...body,
    OP.get,
    AT,
    OP.const,
    step,
    OP.add,
    OP.set,
    AT,
    OP.br,
    0,
    OP.end,
    OP.end,
  );
}

/**
 * Two bytes at once: `hash << 2` does not wait for what comes between, which halves the time.
 * `gear = …; first = (hash << 1) + gear; hash = (hash << 2) + (gear << 1) + …`
 */
function stepTwice(n: number): number[] {
  return code(
    ...gearAt(n),
    OP.set,
    GEAR,
    OP.get,
    HASH,
    OP.const,
    2,
    OP.shiftLeft,
    OP.get,
    GEAR,
    OP.const,
    1,
    OP.shiftLeft,
    ...gearAt(n + 1),
    OP.add,
    OP.add,
    OP.get,
    HASH,
    OP.const,
    1,
    OP.shiftLeft,
    OP.get,
    GEAR,
    OP.add,
    OP.set,
    FIRST,
    OP.set,
    HASH,
    ...returnIfLess(n + 1, FIRST),
    ...returnIfLess(n + 2),
  );
}

/** `gear[bytes[at + n]]` */
function gearAt(n: number): number[] {
  const alignedBy4 = 2;
  return [OP.get, AT, OP.load8, 0, n, OP.const, 2, OP.shiftLeft, OP.load, alignedBy4, 0];
}

/** `if (hash < limit) return at + n` */
function returnIfLess(n: number, hash: number = HASH): number[] {
  return code(
    OP.block,
    NO_RESULT,
    OP.get,
    hash,
    OP.get,
    LIMIT,
    OP.greaterOrEqualUnsigned,
    OP.brIf,
    0,
    OP.get,
    AT,
    OP.const,
    n,
    OP.add,
    OP.return,
    OP.end,
  );
}

function code(...bytes: readonly number[]): number[] {
  return [...bytes];
}

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
