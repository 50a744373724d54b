// Makes the tree of the release: the source's, with every secret re-encrypted for exactly the hosts that use it.
// A fleet without secrets gets the source's tree as it is.
import { readFile } from 'node:fs/promises';
import { findObject, type TreeChange, writeBlobs, writeTree } from '../effects/git-tree.ts';
import {
  applyRekey,
  type ApplyRekeyOptions,
  findRekeyProblems,
  type RekeyOutcome,
} from '../secrets/apply-rekey.ts';
import { findApprover, formatGrants, unapprovedGrants } from '../secrets/grant-approval.ts';
import type { SecretsPlan } from '../secrets/plan-secrets.ts';
import { secretsFailed, type SecretProblem } from '../secrets/secret-problem.ts';
import { SECRETS_RECORD_PATH } from '../secrets/secrets-record.ts';
import type { SourceTree } from '../secrets/source-tree.ts';
import { SlipwayError } from '../util/errors.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { openGitTree } from './git-source-tree.ts';
import type { SourceHostFacts } from './host-facts.ts';
import { planFleetSecrets } from './plan-fleet-secrets.ts';
import type { PreviousRelease } from './release-history.ts';

export interface RekeyRequest {
  readonly mirror: string;
  readonly fleet: FleetFacts;
  readonly results: readonly HostResult<SourceHostFacts>[];
  readonly source: string;
  /** The release that grants are judged by. */
  readonly base: PreviousRelease | undefined;
  /** A release's tree, whose ciphertexts are taken over where they are still right. */
  readonly pool: string | undefined;
  readonly identityFile: string | undefined;
  /** Nothing will be published: without an identity or an approval, say so instead of failing. */
  readonly optional: boolean;
  /** Digest of the grants that the operator approved. */
  readonly approved: string | undefined;
  /** Told line by line: warnings, what the release would give beyond the last one, and who approved it. */
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface ReleaseTree {
  /** Id of the tree object in the mirror. */
  readonly tree: string;
  /** Absent when the fleet has no secrets. */
  readonly secrets?: RekeyOutcome;
}

/** Re-keys and writes the tree. Any problem with any secret fails the whole, with all of them named. */
export async function rekeyRelease(request: RekeyRequest): Promise<ReleaseTree | 'identity-needed'> {
  const { source, base, pool } = await openTrees(request);
  const plan = await planFleetSecrets({
    fleet: request.fleet,
    results: request.results,
    source,
    repository: request.mirror,
    commit: request.source,
    ...(base && request.base && { previous: { tree: base, commit: request.base.manifest.commit } }),
    ...(pool && { pool }),
  });
  for (const { message } of plan.warnings) request.onLine(`warning: ${message}`);
  const problems = [...plan.problems, ...(await judgeGrants(plan, source, request))];
  const trees = { source, pool };
  if (problems.length > 0) return await refuse(plan, problems, { request, trees });
  if (isWithoutSecrets(plan, source)) return { tree: await sourceTreeId(request) };
  if (request.optional && request.identityFile === undefined && needsIdentity(plan)) return 'identity-needed';
  const secrets = await withIdentity(request, trees, async (options) => await applyRekey(plan, options));
  return { tree: await writeReleaseTree(request, secrets), secrets };
}

interface Trees {
  readonly source: SourceTree;
  readonly pool: SourceTree | undefined;
}

/** With an identity it also tries what is sound, so that a person hears of every fault in one go. */
async function refuse(
  plan: SecretsPlan,
  problems: readonly SecretProblem[],
  { request, trees }: { readonly request: RekeyRequest; readonly trees: Trees },
): Promise<never> {
  const more = await withIdentity(request, trees, async (options) => await findRekeyProblems(plan, options));
  throw secretsFailed([...problems, ...more]);
}

/** The identity is in memory for as long as the work takes. */
async function withIdentity<T>(
  { identityFile, signal }: RekeyRequest,
  { source, pool }: Trees,
  work: (options: ApplyRekeyOptions) => Promise<T>,
): Promise<T> {
  const identity = await readIdentity(identityFile);
  try {
    return await work({ source, signal, ...(pool && { previous: pool }), ...(identity && { identity }) });
  } finally {
    identity?.fill(0);
  }
}

async function openTrees(
  request: RekeyRequest,
): Promise<{ source: SourceTree; base: SourceTree | undefined; pool: SourceTree | undefined }> {
  const { mirror, base, pool } = request;
  const source = await openGitTree(mirror, request.source);
  const judged = base && (await openGitTree(mirror, base.manifest.tree));
  const same = pool === base?.manifest.tree;
  return {
    source,
    base: judged,
    pool: same || pool === undefined ? judged : await openGitTree(mirror, pool),
  };
}

/** Tells the grants. A run that would publish some that nobody approved gets them as a problem. */
async function judgeGrants(
  { grants }: SecretsPlan,
  source: SourceTree,
  request: RekeyRequest,
): Promise<SecretProblem[]> {
  if (!grants.recorded) return [];
  for (const line of formatGrants(grants)) request.onLine(line);
  if (!grants.needsApproval) return [];
  const approver = await findApprover(grants, { approved: request.approved, source });
  request.onLine(approver === undefined ? `needs approval: ${grants.digest}` : `approved by ${approver}`);
  return approver === undefined && !request.optional ? [unapprovedGrants(grants)] : [];
}

function needsIdentity(plan: SecretsPlan): boolean {
  return plan.rewrapMacKey || plan.items.some((item) => item.action === 'rekey');
}

/** A record in the source is nobody's: it must not pass for one of ours when the next grants are judged. */
function isWithoutSecrets(plan: SecretsPlan, source: SourceTree): boolean {
  const untouched = plan.items.length === 0 && plan.remove.length === 0 && !plan.grants.recorded;
  return untouched && !source.paths.includes(SECRETS_RECORD_PATH);
}

async function sourceTreeId(request: RekeyRequest): Promise<string> {
  const tree = await findObject(request.mirror, `${request.source}^{tree}`);
  if (tree !== undefined) return tree;
  throw new SlipwayError('internal', `The source ${request.source} has no tree.`);
}

async function readIdentity(file: string | undefined): Promise<Buffer | undefined> {
  if (file === undefined) return undefined;
  return await readFile(file).catch((error: unknown) => {
    throw new SlipwayError('secrets_failed', `The re-key identity ${file} cannot be read.`, {
      next: 'Check --rekey-identity: the path of an age or SSH private key file.',
      cause: error,
    });
  });
}

async function writeReleaseTree(request: RekeyRequest, { changes }: RekeyOutcome): Promise<string> {
  const written = changes.flatMap(({ path, bytes }) => (bytes === undefined ? [] : [{ path, bytes }]));
  const oids = await writeBlobs(
    request.mirror,
    written.map(({ bytes }) => bytes),
  );
  const added = written.map(({ path }, index): TreeChange => ({
    path,
    oid: oids[index] ?? '',
    mode: '100644',
  }));
  const removed = changes.flatMap(({ path, bytes }): TreeChange[] =>
    bytes === undefined ? [{ path, remove: true }] : [],
  );
  return await writeTree(request.mirror, request.source, [...added, ...removed]);
}

/** `2 re-keyed, 3 kept`: what became of the secrets, for people. */
export function describeSecrets(made: ReleaseTree | 'identity-needed'): string {
  if (made === 'identity-needed') return 'no re-key identity here: the source is built as it is';
  if (made.secrets === undefined) return 'no secrets';
  const { rekeyed, reused, removed } = made.secrets.counts;
  const parts = [`${rekeyed} re-keyed`, `${reused} kept`];
  if (removed > 0) parts.push(`${removed} unused left out`);
  return parts.join(', ');
}
