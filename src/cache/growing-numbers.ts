// A list of numbers in a typed array that grows by halves: a million of them without a million objects.

type Numbers = Int32Array | Float64Array | Uint8Array;

const FIRST_CAPACITY = 1024;

export class GrowingNumbers<T extends Numbers> {
  readonly #make: new (capacity: number) => T;
  #values: T;
  #length = 0;

  constructor(make: new (capacity: number) => T) {
    this.#make = make;
    this.#values = new make(FIRST_CAPACITY);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) this.#grow();
    this.#values[this.#length++] = value;
  }

  /** The value at `index`, which must be below `length`. */
  at(index: number): number {
    return this.#values[index] as number;
  }

  #grow(): void {
    const larger = new this.#make(Math.ceil(this.#values.length * 1.5));
    larger.set(this.#values);
    this.#values = larger;
  }
}
