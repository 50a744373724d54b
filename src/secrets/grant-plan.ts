// What a commit asks for beyond what the last release gave: readers, host keys, editors, re-keyers, another policy.
// Judged by the previous release's policy and record, never by what the commit itself brings along. Pure.
import { createHash } from 'node:crypto';
import { keyFingerprint } from './key-fingerprint.ts';
import type { RekeyItem } from './rekey-plan.ts';
import type { SecretProblem } from './secret-problem.ts';
import { judge, POLICY_PATH, type SecretsPolicy } from './secrets-policy.ts';
import { sourcePath, type SecretsRecord } from './secrets-record.ts';

export interface PolicyFile {
  readonly policy: SecretsPolicy;
  /** Hex hash of the file; undefined when there is none. */
  readonly sha256: string | undefined;
}

export interface GrantFacts {
  readonly items: readonly RekeyItem[];
  /** The last release's record; undefined: no release had secrets, so its state is taken as it is. */
  readonly record: SecretsRecord | undefined;
  /** Commit of the last release, which an approval is bound to. */
  readonly base: string | undefined;
  readonly basePolicy: PolicyFile;
  readonly ownPolicy: PolicyFile;
  /** Tags of each host, as the commit has them. */
  readonly tags: Readonly<Record<string, readonly string[]>>;
  /** Fingerprints, as the commit has them. */
  readonly editors: readonly string[];
  readonly rekeyers: readonly string[];
  /** Fingerprints of who may approve. */
  readonly approvers: readonly string[];
  /** Other paths at which a file's ciphertext stands or stood: the same secret under another name. */
  readonly origins: ReadonlyMap<string, readonly string[]>;
}

export interface Grant {
  /** `+ web3 may now read secrets/db.age` */
  readonly line: string;
  /** Allowed by the policy in force without anybody's approval. */
  readonly free: boolean;
}

export interface GrantPlan {
  /** Whether a release with secrets came before; the first one has nothing to be compared with. */
  readonly recorded: boolean;
  readonly increases: readonly Grant[];
  /** `- web2 no longer reads secrets/db.age`: never needs approval. */
  readonly decreases: readonly string[];
  readonly needsApproval: boolean;
  /** The exact bytes that an approver signs, and their SHA-256 in hex. */
  readonly message: string;
  readonly digest: string;
  readonly approvers: readonly string[];
}

export function planGrants(facts: GrantFacts): GrantPlan {
  const { record } = facts;
  const increases = [
    ...policyChange(facts),
    ...newSourceReaders(facts),
    ...newHostKeys(facts),
    ...facts.items.flatMap((item) => newReaders(item, facts)),
  ];
  const lines = increases.map((grant) => grant.line);
  const message = ['slipway-grants-v1', `release ${facts.base ?? 'none'}`, ...lines, ''].join('\n');
  return {
    recorded: record !== undefined,
    increases,
    decreases: lostReaders(facts),
    needsApproval: record !== undefined && increases.some((grant) => !grant.free),
    message,
    digest: createHash('sha256').update(message).digest('hex'),
    approvers: facts.approvers,
  };
}

/** What contradicts the commit's own policy. It becomes the policy in force, so no release may break it. */
export function findPolicyProblems(facts: GrantFacts): SecretProblem[] {
  const { policy } = facts.ownPolicy;
  const denied = facts.items.flatMap((item) =>
    hostsOf(item)
      .filter((host) => judge(policy, host, item.source, ownValue(facts.tags, host) ?? []) === 'denied')
      .map((host) => notAllowed(host, item.source)),
  );
  const allowed = policy.editors && new Set(policy.editors.map(keyFingerprint));
  const strangers = [...facts.editors, ...facts.rekeyers].filter((key) => allowed?.has(key) === false);
  return [...denied, ...[...new Set(strangers)].map(notAnEditor)];
}

function policyChange({ basePolicy, ownPolicy }: GrantFacts): Grant[] {
  if (basePolicy.sha256 === ownPolicy.sha256) return [];
  const what = ownPolicy.sha256 === undefined ? 'is removed' : `becomes sha256:${ownPolicy.sha256}`;
  return [{ line: `~ ${POLICY_PATH} ${what}`, free: false }];
}

/** Who reads the source branch: what they could not open before, they can from the next "put" or "edit" on. */
function newSourceReaders({ record, editors, rekeyers }: GrantFacts): Grant[] {
  return [
    ...added(editors, record?.editors).map((key) => `+ ${key} may now decrypt the source branch (editor)`),
    ...added(rekeyers, record?.rekeyers).map(
      (key) => `+ ${key} may now decrypt the source branch (re-keyer)`,
    ),
  ].map((line) => ({ line, free: false }));
}

function added(now: readonly string[], before: readonly string[] | undefined): string[] {
  return before === undefined ? [] : [...new Set(now)].filter((one) => !before.includes(one)).toSorted();
}

/** A key that a reading host did not have: a new host, a rotation, a reinstalled machine, or an impostor. */
function newHostKeys({ items, record }: GrantFacts): Grant[] {
  const lines = items.flatMap((item) =>
    item.recipients.flatMap(({ host, recipient }) => {
      const known =
        ownValue(record?.hosts, host)?.some((key) => key.fingerprint === recipient.fingerprint) === true;
      return known ? [] : [`+ ${host} has the new key ${recipient.type} ${recipient.fingerprint}`];
    }),
  );
  return [...new Set(lines)].toSorted().map((line) => ({ line, free: false }));
}

function newReaders(item: RekeyItem, facts: GrantFacts): Grant[] {
  const { record, basePolicy } = facts;
  const readersOf = (path: string): readonly string[] =>
    (record?.secrets ?? []).flatMap((secret) => (sourcePath(secret) === path ? secret.hosts : []));
  const origins = facts.origins.get(item.source) ?? [];
  return hostsOf(item).flatMap((host) => {
    // A renamed file is nothing new for those who could read it under its other name.
    if (origins.some((origin) => readersOf(origin).includes(host))) return [];
    if (origins.length > 0)
      return [{ line: `${readLine(host, item.source)}, the content of ${origins.join(', ')}`, free: false }];
    if (readersOf(item.source).includes(host)) return [];
    const verdict = judge(basePolicy.policy, host, item.source, ownValue(record?.tags, host) ?? []);
    return [{ line: readLine(host, item.source), free: verdict === 'free' }];
  });
}

function lostReaders({ items, record }: GrantFacts): string[] {
  const now = new Set(items.flatMap((item) => hostsOf(item).map((host) => `${host} ${item.source}`)));
  return (record?.secrets ?? []).flatMap((secret) =>
    secret.hosts
      .filter((host) => !now.has(`${host} ${sourcePath(secret)}`))
      .map((host) => `- ${host} no longer reads ${sourcePath(secret)}`),
  );
}

function hostsOf(item: RekeyItem): string[] {
  return [...new Set(item.recipients.map((one) => one.host))];
}

/** A host may be called `constructor`. */
function ownValue<V>(record: Readonly<Record<string, V>> | undefined, key: string): V | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
}

function readLine(host: string, path: string): string {
  return `+ ${host} may now read ${path}`;
}

function notAllowed(host: string, path: string): SecretProblem {
  return {
    code: 'grant_denied',
    host,
    path,
    message: `${host} uses ${path}, which ${POLICY_PATH} does not let it read.`,
    next: `Take the secret out of ${host}, or change the rule; a changed policy needs approval.`,
  };
}

function notAnEditor(fingerprint: string): SecretProblem {
  return {
    code: 'editor_denied',
    path: POLICY_PATH,
    message: `${fingerprint} is an editor or re-keyer of the flake, but not in the list "editors" of ${POLICY_PATH}.`,
    next: 'Take the key out of the flake, or add it to the policy; a changed policy needs approval.',
  };
}
