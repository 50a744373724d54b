// The listing of a NAR, `<hash>.ls`: what is in it and where, so that a client can look at one file without the whole.
// Version 1, as `nix copy` with write-nar-listing makes it (libstore/nar-accessor.cc).
import { NarReader, type NarVisitor } from '../nix/nar-reader.ts';

/** Some 100 MB of memory; the largest path of nixpkgs has a tenth of that. */
const MOST_ENTRIES = 500_000;

type Listing =
  | { type: 'regular'; size: number; executable?: true; narOffset: number }
  | { type: 'symlink'; target: string }
  | { type: 'directory'; entries: Record<string, Listing> };

/** The listing as JSON; `undefined` when there is too much to list. Throws `nar_invalid` for what is no NAR. */
export async function listNar(nar: AsyncIterable<Uint8Array>): Promise<string | undefined> {
  const lister = new Lister();
  const reader = new NarReader(lister);
  for await (const bytes of nar) {
    reader.write(bytes);
    if (lister.count > MOST_ENTRIES) return undefined;
  }
  reader.end();
  return JSON.stringify({ version: 1, root: lister.root });
}

class Lister implements NarVisitor {
  root: Listing | undefined;
  count = 0;
  readonly #open: [string, Listing][][] = [];

  enterDirectory(): void {
    this.#open.push([]);
  }

  leaveDirectory(path: readonly string[]): void {
    // Not by assignment: a file may be called `__proto__`.
    const entries = Object.fromEntries(this.#open.pop() ?? []);
    this.#add(path, { type: 'directory', entries });
  }

  startFile(
    path: readonly string[],
    { size, executable, offset }: { size: number; executable: boolean; offset: number },
  ): void {
    this.#add(path, { type: 'regular', size, ...(executable && { executable }), narOffset: offset });
  }

  symlink(path: readonly string[], target: string): void {
    this.#add(path, { type: 'symlink', target });
  }

  #add(path: readonly string[], node: Listing): void {
    this.count++;
    const name = path.at(-1);
    if (name === undefined) this.root = node;
    else this.#open.at(-1)?.push([name, node]);
  }
}
