// `slipway secrets put PATH < value`: writes a secret with public keys only. The value is read from standard input,
// never from the command line; only ciphertext touches the disk.
import { rekeyerKeys } from '../api/fleet-config.ts';
import { putSecret, type PutSecretRequest } from '../secrets/put-secret.ts';
import { SlipwayError } from '../util/errors.ts';
import { findRule } from './find-rule.ts';
import type { Checkout } from './secrets-checkout.ts';
import { checkedPath, writeInWorkTree } from './write-in-work-tree.ts';

const MAX_VALUE = 16 * 1024 * 1024;

export interface PutInputs {
  readonly value: Buffer;
  /** Absent: as secrets.nix says, else bytes. */
  readonly armor: boolean | undefined;
}

/** Encrypts `value` for editors and re-keyers and writes the file; returns its path in the repository. */
export async function putInCheckout(checkout: Checkout, name: string, inputs: PutInputs): Promise<string> {
  const { value, armor } = inputs;
  const file = await putSecret({ ...(await readersOf(checkout, checkedPath(name), armor)), value });
  await writeInWorkTree(checkout.workTree, name, file);
  return name;
}

/** Who can decrypt a file of the source branch: as secrets.nix says where it names the file, else all editors. */
export async function readersOf(
  checkout: Checkout,
  name: string,
  armor: boolean | undefined,
): Promise<Omit<PutSecretRequest, 'value'>> {
  const { config } = checkout.fleet;
  const rule = await findRule(checkout, name);
  return {
    path: name,
    editors: rule?.publicKeys ?? config.secrets.editors,
    rekeyers: rekeyerKeys(config),
    armor: armor ?? rule?.armor ?? false,
  };
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

function onTerminal(): SlipwayError {
  return new SlipwayError('invalid', 'The value comes from standard input, and that is a terminal.', {
    next: 'Pipe it in: pwgen -s 40 1 | slipway secrets put secrets/db.age',
  });
}
