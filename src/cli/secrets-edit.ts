// `slipway secrets edit PATH`: decrypts for an editor, opens $EDITOR on a file in RAM, encrypts again when it changed. The
// plaintext never touches a disk unless --allow-disk says so, and is gone afterwards.
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseAgeHeader } from '../age/age-header.ts';
import { openRamFolder } from '../effects/ram-folder.ts';
import { runOnTerminal } from '../effects/run-on-terminal.ts';
import { openSecret } from '../secrets/open-secret.ts';
import { putSecret } from '../secrets/put-secret.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import type { Checkout } from './secrets-checkout.ts';
import { readersOf } from './secrets-put.ts';
import { checkedPath, writeInWorkTree } from './write-in-work-tree.ts';

export interface EditInputs {
  readonly identityFiles: readonly string[];
  readonly allowDisk: boolean;
  readonly env: CliIo['env'];
}

/** Whether the file was written: not when nothing changed. */
export async function editInCheckout(checkout: Checkout, name: string, inputs: EditInputs): Promise<boolean> {
  const { workTree } = checkout;
  const old = workTree === undefined ? undefined : await readOld(path.join(workTree, checkedPath(name)));
  const readers = await readersOf(
    checkout,
    name,
    old === undefined ? undefined : parseAgeHeader(old).armored,
  );
  const before = old === undefined ? Buffer.alloc(0) : await openSecret(old, inputs.identityFiles);
  let after = Buffer.alloc(0);
  try {
    after = await editInRam(path.basename(name, '.age'), before, inputs);
    if (after.equals(before)) return false;
    await writeInWorkTree(workTree, name, await putSecret({ ...readers, value: after }));
    return true;
  } finally {
    before.fill(0);
    after.fill(0);
  }
}

async function editInRam(
  name: string,
  plaintext: Buffer,
  { env, allowDisk }: EditInputs,
): Promise<Buffer<ArrayBuffer>> {
  const own = `/run/user/${process.getuid?.() ?? 0}`;
  await using folder = await openRamFolder([env['XDG_RUNTIME_DIR'], own, '/dev/shm'], allowDisk);
  const file = path.join(folder.path, name);
  await writeFile(file, plaintext, { mode: 0o600, flag: 'wx' });
  const editor = env['VISUAL'] ?? env['EDITOR'] ?? 'vi';
  // As git does it: the variable may hold options.
  const { code } = await runOnTerminal(['/bin/sh', '-c', `${editor} "$1"`, 'editor', file]);
  const edited = await readFile(file);
  // What shredding can do on RAM: the pages are zero before they are given back.
  await writeFile(file, Buffer.alloc(edited.length));
  if (code === 0) return edited;
  edited.fill(0);
  throw new SlipwayError('cancelled', `${editor} ended with exit code ${code}; nothing was changed.`);
}

async function readOld(file: string): Promise<Buffer | undefined> {
  return await readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}
