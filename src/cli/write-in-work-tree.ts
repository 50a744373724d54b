// Writes a file of the working tree whole or not at all, and never through a symbolic link that leads out of it.
import { randomBytes } from 'node:crypto';
import { mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { findPathFault } from '../secrets/secret-path.ts';
import { SlipwayError } from '../util/errors.ts';

/** `name` is the path in the repository. */
export async function writeInWorkTree(
  workTree: string | undefined,
  name: string,
  file: Buffer,
): Promise<void> {
  if (workTree === undefined) throw bareRepository();
  const target = path.join(workTree, checkedPath(name));
  const folder = path.dirname(target);
  await mkdir(folder, { recursive: true });
  const [root, real] = [await realpath(workTree), await realpath(folder)];
  if (real !== root && !real.startsWith(`${root}/`)) {
    throw new SlipwayError('invalid', `${name} leads out of the repository by a symbolic link.`, {
      next: 'Give a path in the repository itself.',
    });
  }
  const partial = path.join(real, `.${path.basename(target)}.${randomBytes(6).toString('hex')}`);
  try {
    await writeFile(partial, file, { mode: 0o644, flag: 'wx' });
    await rename(partial, path.join(real, path.basename(target)));
  } finally {
    await rm(partial, { force: true });
  }
}

/** The path, when a secret may have it. */
export function checkedPath(name: string): string {
  const fault = findPathFault(name);
  if (fault === undefined) return name;
  throw new SlipwayError('invalid', `The path ${JSON.stringify(name)} is refused: ${fault}.`);
}

function bareRepository(): SlipwayError {
  return new SlipwayError('repository_unusable', 'A bare repository has no files to write a secret to.', {
    next: 'Run it in a clone.',
  });
}
