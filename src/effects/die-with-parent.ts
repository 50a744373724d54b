// Long-running children must not outlive a killed Slipway: an orphaned `nix-store` would hold its locks and go on
// building for nobody. The kernel tells the child when its parent dies (prctl(2) PR_SET_PDEATHSIG), through util-linux'
// setpriv; where that is missing the child merely lives on until it is done.
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

let found: boolean | undefined;

/** `argv` as a command that gets TERM when this process dies. */
export function dieWithParent(argv: readonly string[]): readonly string[] {
  found ??= (process.env['PATH'] ?? '').split(delimiter).some(hasSetpriv);
  return found ? ['setpriv', '--pdeathsig', 'TERM', '--', ...argv] : argv;
}

function hasSetpriv(folder: string): boolean {
  try {
    accessSync(join(folder, 'setpriv'), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
