// How far a push has come, counted in one place and told after every step.
import type { StorePath } from '../nix/store-path.ts';

export interface PushProgress {
  readonly total: number;
  readonly present: number;
  readonly pushed: number;
  readonly sentBytes: number;
  /** Bytes of NARs that are to be pushed, and how many of them were read so far. */
  readonly narBytes: number;
  readonly readBytes: number;
  /** The path that was just finished. */
  readonly path?: StorePath;
}

export class PushTally {
  sentBytes = 0;
  readBytes = 0;
  #pushed = 0;
  readonly #facts: Pick<PushProgress, 'total' | 'present' | 'narBytes'>;
  readonly #tell: (progress: PushProgress) => void;

  constructor(
    facts: Pick<PushProgress, 'total' | 'present' | 'narBytes'>,
    tell: (progress: PushProgress) => void = () => undefined,
  ) {
    this.#facts = facts;
    this.#tell = tell;
  }

  /** One more path is in the cache. */
  pushed(path: StorePath): void {
    this.#pushed++;
    this.report(path);
  }

  report(path?: StorePath): void {
    const { sentBytes, readBytes } = this;
    this.#tell({ ...this.#facts, pushed: this.#pushed, sentBytes, readBytes, ...(path && { path }) });
  }
}
