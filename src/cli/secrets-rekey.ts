// `slipway secrets rekey` and `verify`: what a release would hold, written to a folder to look at; and the proof that
// a release opens for its hosts alone.
import { readerKeys } from '../pipeline/secret-readers.ts';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { applyRekey, type RekeyOutcome } from '../secrets/apply-rekey.ts';
import { assertNoProblems, type SecretProblem } from '../secrets/secret-problem.ts';
import { parseSecretsRecord, SECRETS_RECORD_PATH } from '../secrets/secrets-record.ts';
import type { SourceTree } from '../secrets/source-tree.ts';
import { verifyRelease, verifyUnreadable } from '../secrets/verify-release.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Checkout, CheckoutPlan } from './secrets-checkout.ts';

/** Re-keys into `output` (made when absent): the files of the release that differ from the source. */
export async function rekeyInto(
  output: string,
  checkout: Checkout,
  planned: CheckoutPlan,
  options: { readonly identityFile: string | undefined; readonly signal: AbortSignal },
): Promise<RekeyOutcome> {
  assertNoProblems(planned.plan.problems);
  const outcome = await withIdentity(options.identityFile, async (identity) => {
    return await applyRekey(planned.plan, {
      source: checkout.source,
      signal: options.signal,
      ...(planned.previous && { previous: planned.previous }),
      ...(identity && { identity }),
    });
  });
  for (const { path: name, bytes } of outcome.changes) {
    if (bytes === undefined) continue;
    await mkdir(path.dirname(path.join(output, name)), { recursive: true });
    await writeFile(path.join(output, name), bytes);
  }
  return outcome;
}

/** Everything that is wrong with the secrets of a release; with an identity also tries to read them. */
export async function verifyTree(
  tree: SourceTree,
  checkout: Checkout,
  options: { readonly identityFile: string | undefined; readonly signal: AbortSignal },
): Promise<readonly SecretProblem[]> {
  const { config } = checkout.fleet;
  const facts = { tree, hostKeys: readerKeys(checkout.fleet), editors: config.secrets.editors };
  const structural = await verifyRelease(facts);
  const [bytes] = await tree.read([SECRETS_RECORD_PATH]);
  const record = bytes && parseSecretsRecord(bytes);
  if (record === undefined) return structural;
  const readable = await withIdentity(options.identityFile, async (identity) => {
    return identity === undefined
      ? []
      : await verifyUnreadable(tree, record, { identity, signal: options.signal });
  });
  return [...structural, ...readable];
}

async function withIdentity<T>(
  file: string | undefined,
  work: (identity: Buffer | undefined) => Promise<T>,
): Promise<T> {
  const identity = file === undefined ? undefined : await readIdentity(file);
  try {
    return await work(identity);
  } finally {
    identity?.fill(0);
  }
}

async function readIdentity(file: string): Promise<Buffer> {
  return await readFile(file).catch((error: unknown) => {
    throw new SlipwayError('not_found', `The re-key identity ${file} cannot be read.`, {
      next: 'Give --rekey-identity the path of an age or SSH private key file.',
      cause: error,
    });
  });
}
