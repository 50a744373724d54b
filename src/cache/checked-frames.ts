// Which frames of a content were read and had their checksums lately, from packs that nobody has touched since. Hot NARs
// are then sent without checking them again, which would be a third of the work.
import type { ContentLayout } from './content-layout.ts';

/** Media can rot without anybody touching a file, so everything is checked again after a while. */
const TRUSTED_MS = 10 * 60_000;

interface Checks {
  readonly marks: string;
  readonly until: number;
  /** 1 for each piece whose frame was found intact. */
  readonly intact: Uint8Array;
}

export class CheckedFrames {
  readonly #checks = new WeakMap<ContentLayout, Checks>();

  /** To be called before frames of the layout are read, with the marks of its packs; `undefined` for one that has none. */
  begin(layout: ContentLayout, marks: readonly (string | undefined)[]): void {
    const known = this.#checks.get(layout);
    if (marks.includes(undefined)) return void this.#checks.delete(layout);
    const joined = marks.join('\n');
    if (known?.marks === joined && known.until > performance.now()) return;
    const intact = new Uint8Array(layout.pieces.length);
    this.#checks.set(layout, { marks: joined, until: performance.now() + TRUSTED_MS, intact });
  }

  add(layout: ContentLayout, from: number, count: number): void {
    this.#checks.get(layout)?.intact.fill(1, from, from + count);
  }

  has(layout: ContentLayout, from: number, count: number): boolean {
    const intact = this.#checks.get(layout)?.intact;
    if (intact === undefined) return false;
    for (let index = from; index < from + count; index++) if (intact[index] !== 1) return false;
    return true;
  }

  /** Whether a pack was touched since the frames were found intact; packs without marks are not looked at. */
  isDoubtful(layout: ContentLayout, from: number, count: number): boolean {
    return this.#checks.has(layout) && !this.has(layout, from, count);
  }
}
