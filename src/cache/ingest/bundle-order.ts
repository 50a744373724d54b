// Bundles of one push overlap: while one is committed, the next is taken in already. What the next needs of the one before,
// it waits for here: the beginnings of NARs until the one before is taken in, everything else until it has ended.

export class BundleOrder {
  readonly #last = new Map<string, BundlePlace>();

  /** The place behind the bundles of the same push that came before; without a push, one for itself. To be disposed of. */
  join(push: string | undefined): BundlePlace {
    if (push === undefined) return new BundlePlace(undefined, () => undefined);
    const place: BundlePlace = new BundlePlace(this.#last.get(push), () => {
      if (this.#last.get(push) === place) this.#last.delete(push);
    });
    this.#last.set(push, place);
    return place;
  }
}

export class BundlePlace implements Disposable {
  readonly #before: BundlePlace | undefined;
  readonly #leave: () => void;
  readonly #taken = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<void>();
  #outcome: 'open' | 'committed' | 'failed' = 'open';

  constructor(before: BundlePlace | undefined, leave: () => void) {
    this.#before = before;
    this.#leave = leave;
  }

  get hasFailed(): boolean {
    return this.#outcome === 'failed';
  }

  /** Until the bundle before has been read, and what it began can be gone on with. */
  async beforeTaken(): Promise<void> {
    if (this.#before !== undefined) await this.#before.#taken.promise;
  }

  /** Until the bundle before is committed or has failed. */
  async beforeEnded(): Promise<void> {
    if (this.#before !== undefined) await this.#before.#ended.promise;
  }

  taken(): void {
    this.#taken.resolve();
  }

  committed(): void {
    this.#outcome = 'committed';
  }

  /** A bundle that was not committed has failed. */
  [Symbol.dispose](): void {
    if (this.#outcome === 'open') this.#outcome = 'failed';
    this.#leave();
    this.#taken.resolve();
    this.#ended.resolve();
  }
}
