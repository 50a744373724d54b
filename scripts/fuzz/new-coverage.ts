// Tells whether an input made the code take a way that no input before has taken: V8's block coverage of our sources.
import { Session, type Profiler } from 'node:inspector';

export class Coverage implements Disposable {
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  constructor() {
    this.#session.connect();
    this.#session.post('Profiler.enable');
    // Without counts V8 tells only what is new since the last time, which is cheap.
    this.#session.post('Profiler.startPreciseCoverage', { callCount: false, detailed: true });
  }

  get size(): number {
    return this.#seen.size;
  }

  /** Since the last call. */
  takeNew(): boolean {
    let found = false;
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error === null) found = this.#note(taken.result);
    });
    return found;
  }

  #note(scripts: readonly Profiler.ScriptCoverage[]): boolean {
    const before = this.#seen.size;
    for (const { url, functions } of scripts)
      if (url.includes('/src/') && !url.includes('node_modules'))
        for (const { ranges } of functions)
          for (const { startOffset, endOffset, count } of ranges)
            if (count > 0) this.#seen.add(`${url} ${startOffset} ${endOffset}`);
    return this.#seen.size > before;
  }

  [Symbol.dispose](): void {
    this.#session.disconnect();
  }
}
