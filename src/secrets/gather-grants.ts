// Gathers what the grant plan is decided from: both policies, who may approve, and under which other names a new
// ciphertext stood before. Reads trees and history only.
import { removeArmor, isArmored } from '../age/age-header.ts';
import { findPolicyProblems, type GrantFacts, type PolicyFile } from './grant-plan.ts';
import { keyFingerprint } from './key-fingerprint.ts';
import type { RekeyPlan } from './rekey-plan.ts';
import type { SecretProblem } from './secret-problem.ts';
import { NO_POLICY, parsePolicy, POLICY_PATH } from './secrets-policy.ts';
import { sourcePath, type SecretsRecord } from './secrets-record.ts';
import type { SecretsRequest } from './secrets-request.ts';
import { sha256Hex, type SourceTree } from './source-tree.ts';

export async function gatherGrants(
  request: SecretsRequest,
  plan: RekeyPlan,
  record: SecretsRecord | undefined,
): Promise<{ facts: GrantFacts; problems: readonly SecretProblem[] }> {
  const own = await readPolicy(request.source);
  // Without an earlier release with secrets there is nothing to protect yet: the first one brings its own policy.
  const base = record === undefined ? own : await readPolicy(request.previous);
  const facts: GrantFacts = {
    items: plan.items,
    record,
    base: request.base,
    basePolicy: base.file,
    ownPolicy: own.file,
    tags: tagsOf(request),
    editors: [...new Set((request.editors ?? []).map(keyFingerprint))],
    rekeyers: plan.rekeyers.map((one) => one.fingerprint),
    approvers: base.file.policy.approvers?.map(keyFingerprint) ?? record?.editors ?? [],
    origins: record === undefined ? new Map() : await findOrigins(request, plan, record),
  };
  const problems = [own, base].flatMap((one) => one.problem ?? []);
  return { facts, problems: [...new Set([...problems, ...findPolicyProblems(facts)])] };
}

async function readPolicy(
  tree: SourceTree | undefined,
): Promise<{ file: PolicyFile; problem?: SecretProblem }> {
  const [bytes] = (await tree?.read([POLICY_PATH])) ?? [];
  if (bytes === undefined) return { file: { policy: NO_POLICY, sha256: undefined } };
  const policy = parsePolicy(bytes);
  const sha256 = sha256Hex(bytes);
  if ('code' in policy) return { file: { policy: NO_POLICY, sha256 }, problem: policy };
  return { file: { policy, sha256 } };
}

function tagsOf(request: SecretsRequest): Record<string, readonly string[]> {
  const tagged = Object.entries(request.hosts).filter(
    ([, { tags }]) => tags !== undefined && tags.length > 0,
  );
  return Object.fromEntries(tagged.map(([host, { tags }]) => [host, [...new Set(tags)].toSorted()]));
}

/**
 * Other paths of each new or changed file's very ciphertext. Nobody can change a ciphertext without a key, armor aside,
 * so whoever copies another secret's file to a path that a host may read is found here.
 */
async function findOrigins(
  request: SecretsRequest,
  plan: RekeyPlan,
  record: SecretsRecord,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const { history, source } = request;
  const before = new Map(record.secrets.map((secret) => [sourcePath(secret), secret.sourceSha256]));
  const changed = plan.items.filter(
    (item) => item.action !== 'keep' && item.sourceSha256 !== before.get(item.source),
  );
  if (history === undefined || changed.length === 0) return new Map();
  const files = await source.read(changed.map((item) => item.source));
  const named = new Map<string, string[]>();
  for (const [index, item] of changed.entries()) {
    const name = ciphertextName(files[index] ?? Buffer.alloc(0));
    named.set(name, [...(named.get(name) ?? []), item.source]);
  }
  const origins = new Map<string, Set<string>>();
  await history(({ path, bytes }) => {
    for (const item of named.get(ciphertextName(bytes)) ?? []) {
      if (item !== path) origins.set(item, (origins.get(item) ?? new Set()).add(path));
    }
  });
  return new Map([...origins].map(([path, others]) => [path, [...others].toSorted()]));
}

function ciphertextName(file: Buffer): string {
  try {
    return sha256Hex(isArmored(file) ? removeArmor(file) : file);
  } catch {
    return sha256Hex(file); // not age: it has no other form
  }
}
