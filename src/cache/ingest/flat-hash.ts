// What a flat content address speaks of: the bytes of the one file that a NAR holds.
import { createHash, type Hash as Hasher } from 'node:crypto';

/** SHA-256 of the contents when the NAR's root is a regular file: what a flat content address speaks of. */
export class FlatHash {
  #hasher: Hasher | undefined;

  startFile(path: readonly string[]): void {
    if (path.length === 0) this.#hasher = createHash('sha256');
  }

  fileData(bytes: Uint8Array): void {
    this.#hasher?.update(bytes);
  }

  hash(): Buffer | undefined {
    return this.#hasher?.digest();
  }
}
