// Decodes .xz streams (tukaani.org/xz/xz-file-format.txt) with xz-embedded as WebAssembly, as fast as its input comes.
// The package's own stream class hides what follows a stream and cannot tell a cut one, so its decoder is driven here;
// the exact version is pinned, and xz-decoder.test.ts holds what is relied on. Dictionaries of up to 64 MiB (xz -9).
import xz from 'xz-decompress';

/** xz-embedded's results (linux/xz.h): go on; all streams have ended. */
const XZ_OK = 0;
const XZ_STREAM_END = 1;
const WHAT_IS_WRONG: Readonly<Record<number, string>> = {
  3: 'it needs more memory than there is',
  4: 'its dictionary is larger than 64 MiB',
  5: 'it is no .xz file',
  6: 'it uses a filter or check that is not known here',
  7: 'it is damaged',
  8: 'it is cut off',
};

interface XzExports {
  readonly memory: { readonly buffer: ArrayBuffer };
  create_context(): number;
  supply_input(context: number, length: number): void;
  get_next_output(context: number): number;
}

interface XzModule {
  _getModuleInstance(): Promise<void>;
  readonly _moduleInstance: { readonly exports: XzExports };
}

// The context begins with: buffer size, input pointer, position, size, output pointer, position (u32 each).
const BUFFER_SIZE = 0;
const IN_POINTER = 1;
const IN_POSITION = 2;
const IN_SIZE = 3;
const OUT_POINTER = 4;
const OUT_POSITION = 5;

/** Decodes a run of .xz streams with padding between them. Memory is given back with the object. */
export class XzDecoder {
  readonly #xz: XzExports;
  readonly #context: number;
  #input: Uint8Array = new Uint8Array(0);
  #state: 'open' | 'ending' | 'done' = 'open';

  static async create(): Promise<XzDecoder> {
    const module = xz.XzReadableStream as unknown as XzModule;
    await module._getModuleInstance(); // a new instance with memory of its own
    return new XzDecoder(module._moduleInstance.exports);
  }

  private constructor(exports: XzExports) {
    this.#xz = exports;
    this.#context = exports.create_context();
  }

  /** Gives input; only once `read()` has said that it wants more. */
  supply(bytes: Uint8Array): void {
    this.#input = bytes;
  }

  /** Says that no more input comes; `read()` then gives what is left. */
  end(): void {
    this.#xz.supply_input(this.#context, 0);
    this.#state = 'ending';
  }

  /** The next piece of output, possibly empty; `undefined` when more input is wanted, or all is read. */
  read(): Uint8Array | undefined {
    if (this.#state === 'done' || (this.#state === 'open' && !this.#fill())) return undefined;
    const result = this.#xz.get_next_output(this.#context);
    if (result === XZ_STREAM_END) this.#state = 'done';
    else if (result !== XZ_OK) throw broken(result);
    const fields = this.#fields();
    const from = at(fields, OUT_POINTER);
    const output = new Uint8Array(this.#xz.memory.buffer, from, at(fields, OUT_POSITION)).slice();
    fields[OUT_POSITION] = 0;
    return output;
  }

  /** False when the decoder has eaten all that there is. */
  #fill(): boolean {
    const fields = this.#fields();
    if (at(fields, IN_POSITION) !== at(fields, IN_SIZE)) return true;
    if (this.#input.length === 0) return false;
    const piece = this.#input.subarray(0, at(fields, BUFFER_SIZE));
    this.#input = this.#input.subarray(piece.length);
    new Uint8Array(this.#xz.memory.buffer).set(piece, at(fields, IN_POINTER));
    this.#xz.supply_input(this.#context, piece.length);
    return true;
  }

  /** Read anew each time: the memory moves when it grows. */
  #fields(): Uint32Array {
    return new Uint32Array(this.#xz.memory.buffer, this.#context, 6);
  }
}

function at(fields: Uint32Array, index: number): number {
  return fields[index] ?? 0;
}

function broken(result: number): Error {
  return new Error(WHAT_IS_WRONG[result] ?? `xz-embedded says ${result}`);
}
