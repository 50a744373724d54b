// Whether somebody who may has approved exactly this set of grants: the operator by the digest on the command line, or
// an approver by an ssh signature in the commit. Both are worth nothing for any other set, or on top of another release.
import { findSshSigner, signWithSsh } from '../effects/ssh-signature.ts';
import type { GrantPlan } from './grant-plan.ts';
import type { SecretProblem } from './secret-problem.ts';
import type { SourceTree } from './source-tree.ts';

/** Armored ssh signatures over the grants' message, one after another. */
export const APPROVAL_PATH = '.slipway/approval.sig';

const NAMESPACE = 'slipway-grants';
const SIGNATURE = /-----BEGIN SSH SIGNATURE-----[\sA-Za-z0-9+/=]+-----END SSH SIGNATURE-----/g;
const MAX_SIGNATURES = 16;
const MAX_BYTES = 256 * 1024;

export interface ApprovalSources {
  /** The digest that the operator approved. */
  readonly approved: string | undefined;
  /** The commit, which may carry an approval. */
  readonly source: SourceTree;
}

/** Who approved exactly these grants: `the operator`, or an approver's fingerprint. */
export async function findApprover(
  grants: GrantPlan,
  { approved, source }: ApprovalSources,
): Promise<string | undefined> {
  if (approved === grants.digest) return 'the operator';
  const [file] = await source.read([APPROVAL_PATH]);
  if (file === undefined || file.length > MAX_BYTES) return undefined;
  const signatures = file.toString('latin1').match(SIGNATURE) ?? [];
  for (const signature of signatures.slice(0, MAX_SIGNATURES)) {
    const signer = await findSshSigner(grants.message, { signature: `${signature}\n`, namespace: NAMESPACE });
    if (signer !== undefined && grants.approvers.includes(signer)) return signer;
  }
  return undefined;
}

export async function signGrants(grants: GrantPlan, keyFile: string): Promise<string> {
  return await signWithSsh(grants.message, { keyFile, namespace: NAMESPACE });
}

/** What the last release did not give, marked where somebody has to agree. */
export function formatGrants(grants: GrantPlan): string[] {
  const increases = grants.increases.map(({ line, free }) =>
    free ? `${line} (the policy allows it)` : line,
  );
  return [...increases, ...grants.decreases];
}

/** The diff as a problem, for a run that would publish it. */
export function unapprovedGrants(grants: GrantPlan): SecretProblem {
  const lines = formatGrants(grants).map((line) => `  ${line}`);
  const signed = grants.approvers.length > 0;
  const sign = 'an approver runs "slipway secrets approve --key KEY", commits and pushes; or ';
  return {
    code: 'grant_unapproved',
    message: ['This commit asks for more than the last release gave:', ...lines].join('\n'),
    next: `Look at each line. If it is meant: ${signed ? sign : ''}run with --approve-grants ${grants.digest}`,
  };
}
