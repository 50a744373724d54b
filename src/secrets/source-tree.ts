// What this folder needs of a git tree: its paths, and the bytes of some of them. The caller has the git.
import { createHash } from 'node:crypto';

export interface SourceTree {
  /** Every path of the tree. */
  readonly paths: readonly string[];
  /** Contents in the order of `paths`; undefined where there is no such file. */
  read(paths: readonly string[]): Promise<readonly (Buffer | undefined)[]>;
}

/** A tree in memory, for what is not in git (yet). */
export function memoryTree(files: ReadonlyMap<string, Buffer>): SourceTree {
  return { paths: [...files.keys()], read: async (paths) => paths.map((path) => files.get(path)) };
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
