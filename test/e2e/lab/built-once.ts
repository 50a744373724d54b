// What the tests need that takes a while to make: built once per recipe (a folder with build.sh), kept in the user's cache.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { execText } from '../../../src/effects/exec.ts';

const BUILD_TIMEOUT_MS = 15 * 60_000;

export interface Recipe {
  /** `build.sh FOLDER` makes the result; the hash of everything in here names it. */
  readonly folder: string;
  /** For whoever waits, with how long it takes. */
  readonly what: string;
}

/** The folder of the result; made first when this recipe was never built here. */
export async function builtOnce(recipe: Recipe): Promise<string> {
  const result = join(cacheFolder(), await hashOf(recipe.folder));
  if (existsSync(result)) return result;
  await mkdir(dirname(result), { recursive: true });
  // Several test files may start at once: the lock lets one build, the others find the result.
  const self = [process.execPath, import.meta.filename, result, recipe.folder, recipe.what];
  await execText(['flock', `${result}.lock`, ...self], { timeoutMs: BUILD_TIMEOUT_MS });
  return result;
}

function cacheFolder(): string {
  const xdg = process.env['XDG_CACHE_HOME'];
  return join(xdg === undefined || xdg === '' ? join(homedir(), '.cache') : xdg, 'slipway', 'lab');
}

async function hashOf(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(folder)).toSorted()) {
    hash.update(`${name}\0`).update(await readFile(join(folder, name)));
  }
  return hash.digest('hex').slice(0, 20);
}

/** Runs under the lock. The rename is what makes a finished result visible. */
async function build(result: string, { folder, what }: Recipe): Promise<void> {
  if (existsSync(result)) return;
  const unfinished = `${result}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  process.stderr.write(`Building ${what}…\n`);
  await execText([join(folder, 'build.sh'), unfinished], { timeoutMs: BUILD_TIMEOUT_MS });
  await rename(unfinished, result);
}

if (import.meta.main) {
  const [result = '', folder = '', what = ''] = process.argv.slice(2);
  await build(result, { folder, what });
}
