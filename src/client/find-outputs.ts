// The output paths that a derivation in the store names; none for one that is gone or does not know them (content-addressed).
import { parseDerivation } from '../nix/derivation.ts';
import { parseStorePath, type StorePath } from '../nix/store-path.ts';
import { findTextFile } from './replace-file.ts';

/** `root`: where the store really lies, for stores below another root. */
export async function findOutputs(derivation: StorePath, root = ''): Promise<StorePath[]> {
  const text = await findTextFile(`${root}${derivation}`);
  if (text === undefined) return [];
  const outputs = [...parseDerivation(text).outputs.values()];
  return outputs.flatMap(({ path }) => (path === '' ? [] : [parseStorePath(path)]));
}
