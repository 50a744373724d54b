// `slipway secrets approve`: signs the grants of the commit that is checked out and writes the signature beside it.
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { APPROVAL_PATH, findApprover, signGrants } from '../secrets/grant-approval.ts';
import { assertNoProblems } from '../secrets/secret-problem.ts';
import { memoryTree } from '../secrets/source-tree.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Checkout, CheckoutPlan } from './secrets-checkout.ts';

/** The signature's path in the repository, or undefined when nothing needs one. */
export async function approveInCheckout(
  { workTree }: Checkout,
  { plan }: CheckoutPlan,
  keyFile: string,
): Promise<string | undefined> {
  assertNoProblems(plan.problems);
  if (!plan.grants.needsApproval) return undefined;
  if (workTree === undefined) throw bareRepository();
  const signature = Buffer.from(await signGrants(plan.grants, keyFile));
  const source = memoryTree(new Map([[APPROVAL_PATH, signature]]));
  if ((await findApprover(plan.grants, { approved: undefined, source })) === undefined)
    throw notAnApprover(keyFile);
  const target = path.join(workTree, APPROVAL_PATH);
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, signature);
  return APPROVAL_PATH;
}

function notAnApprover(keyFile: string): SlipwayError {
  return new SlipwayError('forbidden', `${keyFile} is not the key of an approver.`, {
    next: 'Approvers stand in .slipway/policy.toml of the last release; without any, its editors approve.',
  });
}

function bareRepository(): SlipwayError {
  return new SlipwayError('repository_unusable', 'A bare repository has no files to write an approval to.', {
    next: 'Run it in a clone.',
  });
}
