// The base system under every test host: built once per recipe with mmdebstrap, kept in the user's cache folder,
// used read-only as the lower layer of each host's overlay.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { execText } from '../../../src/effects/exec.ts';

const RECIPE = join(import.meta.dirname, 'image');
const BUILD_TIMEOUT_MS = 15 * 60_000;

/** The directory of the base system; builds it first when this recipe was never built here (about 25 s). */
export async function openBaseImage(): Promise<string> {
  const image = join(cacheFolder(), await recipeHash());
  if (existsSync(image)) return image;
  await mkdir(dirname(image), { recursive: true });
  // Several test files may start at once: the lock lets one build, the others find the result.
  await execText(['flock', `${image}.lock`, process.execPath, import.meta.filename, image], {
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  return image;
}

function cacheFolder(): string {
  const xdg = process.env['XDG_CACHE_HOME'];
  return join(xdg === undefined || xdg === '' ? join(homedir(), '.cache') : xdg, 'slipway', 'lab');
}

async function recipeHash(): Promise<string> {
  const hash = createHash('sha256');
  for (const name of (await readdir(RECIPE)).toSorted()) {
    hash.update(`${name}\0`).update(await readFile(join(RECIPE, name)));
  }
  return hash.digest('hex').slice(0, 20);
}

/** Runs under the lock. The rename is what makes a finished image visible. */
async function buildBaseImage(image: string): Promise<void> {
  if (existsSync(image)) return;
  const unfinished = `${image}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  process.stderr.write('Building the base system of the test hosts (once, about 25 s)…\n');
  await execText([join(RECIPE, 'build.sh'), unfinished], { timeoutMs: BUILD_TIMEOUT_MS });
  await rename(unfinished, image);
}

if (import.meta.main) await buildBaseImage(process.argv[2] ?? '');
