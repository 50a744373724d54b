// `slipway secrets put PATH < value`: writes a secret with public keys only. The value is read from standard input,
// never from the command line; only ciphertext touches the disk.
import { randomBytes } from 'node:crypto';
import { mkdir, realpath, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { rekeyerKeys } from '../api/fleet-config.ts';
import { findPathFault } from '../secrets/secret-path.ts';
import { putSecret } from '../secrets/put-secret.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Checkout } from './secrets-checkout.ts';

const MAX_VALUE = 16 * 1024 * 1024;

/** Encrypts `value` for editors and re-keyers and writes the file; returns its path in the repository. */
export async function putInCheckout(
  checkout: Checkout,
  name: string,
  value: Buffer,
  armor: boolean,
): Promise<string> {
  const { config } = checkout.fleet;
  const file = await putSecret({
    path: name,
    value,
    editors: config.secrets.editors,
    rekeyers: rekeyerKeys(config),
    armor,
  });
  if (checkout.workTree === undefined) throw bareRepository();
  await writeInside(checkout.workTree, name, file);
  return name;
}

/** Everything of standard input; refuses a terminal, where the value would stand on the screen. */
export async function readValue(stdin: NodeJS.ReadStream): Promise<Buffer> {
  if (stdin.isTTY) throw onTerminal();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stdin) {
    const bytes = Buffer.from(chunk as Buffer);
    size += bytes.length;
    chunks.push(bytes);
    if (size > MAX_VALUE) throw new SlipwayError('too_large', `The value is larger than ${MAX_VALUE} bytes.`);
  }
  const value = Buffer.concat(chunks);
  for (const chunk of chunks) chunk.fill(0);
  return value;
}

/** Whole or not at all, and never through a symbolic link that leads out of the working tree. */
async function writeInside(workTree: string, name: string, file: Buffer): Promise<void> {
  const fault = findPathFault(name);
  if (fault !== undefined) throw new SlipwayError('invalid', `The path is refused: ${fault}.`);
  const target = path.join(workTree, name);
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

function onTerminal(): SlipwayError {
  return new SlipwayError('invalid', 'The value comes from standard input, and that is a terminal.', {
    next: 'Pipe it in: pwgen -s 40 1 | slipway secrets put secrets/db.age',
  });
}

function bareRepository(): SlipwayError {
  return new SlipwayError('repository_unusable', 'A bare repository has no files to write a secret to.', {
    next: 'Run it in a clone.',
  });
}
