// Numbers for hash parts of store paths, in the order in which they come: a million in 50 MB, where a Map of strings
// takes four times as much. Open addressing over typed arrays.
const BYTES = 32; // the longest text: a hash part
const WORDS = BYTES / 4;
const FIRST_CAPACITY = 1024;

export class PathHashIds {
  #texts = Buffer.alloc(FIRST_CAPACITY * BYTES);
  #words = wordsOf(this.#texts);
  /** Ids plus one; 0 is free. Twice as many as texts fit, a power of two. */
  #slots = new Int32Array(2 * FIRST_CAPACITY);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** The id of `text`, of at most 32 ASCII characters: the next number for a new one. */
  idOf(text: string): number {
    if (this.#count * BYTES === this.#texts.length) this.#grow();
    const id = this.#count;
    // Written where it belongs if it is new; the next one overwrites it if it is not.
    const written = this.#texts.write(text, id * BYTES, BYTES, 'latin1');
    this.#texts.fill(0, id * BYTES + written, (id + 1) * BYTES);
    const slot = this.#find(id);
    const known = this.#slots[slot] ?? 0;
    if (known !== 0) return known - 1;
    this.#slots[slot] = id + 1;
    return this.#count++;
  }

  textOf(id: number): string {
    const start = id * BYTES;
    let end = start + BYTES;
    while (end > start && this.#texts[end - 1] === 0) end--;
    return this.#texts.toString('latin1', start, end);
  }

  /** The slot that holds the text of `id`, or the free one where it belongs. */
  #find(id: number): number {
    const mask = this.#slots.length - 1;
    const words = this.#words;
    let mixed = 0;
    for (let word = id * WORDS; word < (id + 1) * WORDS; word++)
      mixed = Math.imul(mixed ^ (words[word] as number), 0x9e3779b1) ^ (mixed >>> 15);
    for (let slot = mixed & mask; ; slot = (slot + 1) & mask) {
      const other = (this.#slots[slot] as number) - 1;
      if (other === -1 || this.#isSame(id, other)) return slot;
    }
  }

  #isSame(id: number, other: number): boolean {
    const words = this.#words;
    for (let n = 0; n < WORDS; n++) if (words[id * WORDS + n] !== words[other * WORDS + n]) return false;
    return true;
  }

  #grow(): void {
    const texts = Buffer.alloc(this.#texts.length * 2);
    this.#texts.copy(texts);
    this.#texts = texts;
    this.#words = wordsOf(texts);
    this.#slots = new Int32Array(this.#slots.length * 2);
    for (let id = 0; id < this.#count; id++) this.#slots[this.#find(id)] = id + 1;
  }
}

function wordsOf(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
