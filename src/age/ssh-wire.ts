// The length-prefixed fields of SSH keys (RFC 4251 section 5): `string`, `uint32` and `mpint`.
import { SlipwayError } from '../util/errors.ts';

/** Reads fields one after another; a field that runs past the end is the error `invalid`. */
export class SshWireReader {
  readonly #bytes: Buffer;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  take(length: number): Buffer {
    if (length > this.#bytes.length - this.#offset) {
      throw new SlipwayError('invalid', 'The SSH key ends in the middle of a field.');
    }
    this.#offset += length;
    return this.#bytes.subarray(this.#offset - length, this.#offset);
  }

  uint32(): number {
    return this.take(4).readUInt32BE();
  }

  string(): Buffer {
    return this.take(this.uint32());
  }

  text(): string {
    return this.string().toString('latin1');
  }

  /** A positive `mpint` without the zero byte that keeps it positive. */
  positive(): Buffer {
    const bytes = this.string();
    const canonical = bytes.length > 0 && (bytes[0] === 0 ? (bytes[1] ?? 0) >= 0x80 : (bytes[0] ?? 0) < 0x80);
    if (!canonical) throw new SlipwayError('invalid', 'A number in the SSH key is not in canonical form.');
    return bytes[0] === 0 ? bytes.subarray(1) : bytes;
  }

  rest(): Buffer {
    return this.take(this.#bytes.length - this.#offset);
  }

  end(): void {
    if (this.#offset !== this.#bytes.length) {
      throw new SlipwayError('invalid', 'The SSH key has bytes after its last field.');
    }
  }
}

/** The fields, each with its length before it. */
export function formatSshWire(...fields: readonly (Uint8Array | string)[]): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const bytes = Buffer.from(field);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** An unsigned number as `mpint` bytes: a zero byte in front where the top bit is set. */
export function positiveMpint(bytes: Uint8Array): Buffer {
  return (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : Buffer.from(bytes);
}
