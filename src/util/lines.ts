// Splits a byte or text stream into lines with a cap, so that a line without end cannot fill memory.

const ELLIPSIS = ' …[line cut]';

/** Feeds chunks in, calls `onLine` for each line; lines over `maxLength` characters are cut and marked. */
export class LineSplitter {
  readonly #onLine: (line: string) => void;
  readonly #maxLength: number;
  readonly #decoder = new TextDecoder();
  #rest = '';
  #cutting = false;

  constructor(onLine: (line: string) => void, maxLength = 16_384) {
    this.#onLine = onLine;
    this.#maxLength = maxLength;
  }

  push(chunk: Uint8Array): void {
    this.#take(this.#decoder.decode(chunk, { stream: true }));
  }

  end(): void {
    this.#take(this.#decoder.decode());
    if (this.#rest !== '') this.#onLine(this.#rest);
    this.#rest = '';
  }

  #take(text: string): void {
    const parts = text.split('\n');
    const tail = parts.pop() ?? '';
    for (const part of parts) this.#finish(part);
    this.#hold(tail);
  }

  #finish(part: string): void {
    if (this.#cutting) this.#cutting = false;
    else this.#onLine(this.#cut(this.#rest + part));
    this.#rest = '';
  }

  #hold(tail: string): void {
    if (this.#cutting) return;
    this.#rest += tail;
    if (this.#rest.length <= this.#maxLength) return;
    this.#onLine(this.#cut(this.#rest));
    this.#rest = '';
    this.#cutting = true;
  }

  #cut(line: string): string {
    return line.length <= this.#maxLength ? line : line.slice(0, this.#maxLength) + ELLIPSIS;
  }
}
