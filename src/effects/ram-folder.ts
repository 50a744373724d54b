// A private folder in RAM for a plaintext that a person edits: on tmpfs or ramfs, for its owner alone, gone afterwards
// however the program ends, SIGKILL and power cuts excepted (a reboot empties it then).
import { rmSync } from 'node:fs';
import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { SlipwayError } from '../util/errors.ts';

export interface RamFolder extends AsyncDisposable {
  readonly path: string;
}

/** f_type of file systems that have no disk below them (linux/magic.h). */
const IN_RAM = new Set([0x01021994, 0x858458f6]);

/**
 * Opens a folder below the first of `candidates` that is in RAM. Fails with `forbidden` when none is and `allowDisk` is
 * false; else the ordinary temporary folder serves.
 */
export async function openRamFolder(
  candidates: readonly (string | undefined)[],
  allowDisk: boolean,
): Promise<RamFolder> {
  const parent = (await findRam(candidates)) ?? (allowDisk ? tmpdir() : undefined);
  if (parent === undefined) throw noRam(candidates);
  const folder = await mkdtemp(path.join(parent, 'slipway-edit-')); // mode 0700
  const vanish = (): void => rmSync(folder, { recursive: true, force: true });
  process.once('exit', vanish);
  process.once('SIGHUP', hangUp);
  return {
    path: folder,
    async [Symbol.asyncDispose]() {
      await rm(folder, { recursive: true, force: true });
      process.off('exit', vanish);
      process.off('SIGHUP', hangUp);
    },
  };
}

/** A terminal that closes must not leave the folder behind: leaving takes it away. */
function hangUp(): void {
  process.exit(129);
}

async function findRam(candidates: readonly (string | undefined)[]): Promise<string | undefined> {
  for (const candidate of candidates) {
    if (candidate === undefined || candidate === '') continue;
    const facts = await statfs(candidate).catch(() => undefined); // not there: the next one
    if (facts !== undefined && IN_RAM.has(facts.type)) return candidate;
  }
  return undefined;
}

function noRam(candidates: readonly (string | undefined)[]): SlipwayError {
  const tried = candidates.filter((one) => one !== undefined && one !== '').join(', ');
  return new SlipwayError(
    'forbidden',
    `There is no folder in RAM for the plaintext: none of ${tried} is one.`,
    {
      next: 'Set XDG_RUNTIME_DIR to a tmpfs, or take the risk of a disk with --allow-disk.',
    },
  );
}
