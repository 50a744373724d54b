// Reads a path of the store as its NAR into a cutter, once. The NAR's own hash is left to the server, which checks it in
// any case; the length is checked here.
import { setImmediate } from 'node:timers/promises';
import { readNarPieces } from '../effects/nar-pieces.ts';
import type { PathInfo } from '../effects/path-info.ts';
import { SlipwayError } from '../util/errors.ts';

/** Reading blocks: so often what waits meanwhile gets its turn, however slow the disk is. */
const TURN_MS = 20;

/** The NAR of `realPath`; a piece is the caller's only until it asks for the next. Fails with `nar_hash_mismatch` when it has another size than it had. */
export async function* readNar(info: PathInfo, realPath: string): AsyncGenerator<Uint8Array> {
  let size = 0;
  let turn = performance.now();
  for (const bytes of readNarPieces(realPath)) {
    size += bytes.length;
    if (size > info.narSize) break;
    yield bytes;
    if (performance.now() - turn < TURN_MS) continue;
    await setImmediate();
    turn = performance.now();
  }
  if (size !== info.narSize) throw changedOnDisk(info);
}

export function changedOnDisk(info: PathInfo): SlipwayError {
  return new SlipwayError('nar_hash_mismatch', `${info.path} was changed on disk after it was built.`, {
    next: `Repair it: nix-store --repair-path ${info.path}`,
  });
}
