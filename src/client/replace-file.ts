// Replaces a small text file in one step: whoever reads it sees the old or the new one, and a crash leaves one of them.
import { randomBytes } from 'node:crypto';
import { chmod, lstat, mkdir, open, readFile, realpath, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SlipwayError } from '../util/errors.ts';

/** The text; undefined when there is no such file. */
export async function findTextFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Writes through links. `mode` is for a new file; a secret one (0600) is made so even when it was not. */
export async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const target = await realTarget(path);
  if (target.startsWith('/nix/store/'))
    throw new SlipwayError('invalid', `${path} is made by the system's configuration.`, {
      next: 'Put the cache into nix.settings of that configuration instead.',
    });
  const before = await lstat(target).catch(() => undefined);
  const draft = `${target}.${randomBytes(6).toString('hex')}`;
  try {
    {
      await using file = await open(draft, 'wx', mode);
      await file.writeFile(text);
      await file.sync();
    }
    if (before !== undefined && mode !== 0o600) await chmod(draft, before.mode & 0o7777);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

async function realTarget(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (isAbsent(error)) return path;
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
