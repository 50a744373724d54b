// Decides, file by file, what the release needs: which ciphertexts of the previous release stay, which are made anew,
// which source files do not belong in a release at all. Pure: no key, no plaintext, no I/O.
import { isPostQuantum, type AgeRecipient } from '../age/age-recipient.ts';
import type { HostRecipient } from './host-recipients.ts';
import { findRecipientFault } from './recipient-check.ts';
import type { SecretProblem } from './secret-problem.ts';
import type { SecretUse } from './secret-uses.ts';
import { recordedRecipients, sourcePath, type RecordedSecret, type SecretsRecord } from './secrets-record.ts';
import { isAgePath } from './secret-path.ts';
import { sha256Hex } from './source-tree.ts';

export interface SourceFact {
  readonly sha256: string;
  readonly armored: boolean;
  /** Why it is not an age file. */
  readonly fault?: string;
}

export interface RekeyFacts {
  readonly uses: readonly SecretUse[];
  /** Keys of every host that uses secrets; a host whose keys are wrong has none here and a problem elsewhere. */
  readonly recipients: ReadonlyMap<string, readonly AgeRecipient[]>;
  readonly sources: ReadonlyMap<string, SourceFact>;
  /** Every path of the source tree. */
  readonly sourcePaths: readonly string[];
  readonly previousRecord: SecretsRecord;
  /** The previous release's files that its record names. */
  readonly previousFiles: ReadonlyMap<string, Buffer>;
  /** Hosts whose evaluation failed: what they had stays. */
  readonly staleHosts: ReadonlySet<string>;
  /** The configured re-keyers; empty when only the identity itself is known. */
  readonly rekeyers: readonly AgeRecipient[];
}

/** `reuse` and `keep` take the previous release's bytes (`keep`: the source is gone, a stale host still uses it). */
export type RekeyAction = 'reuse' | 'rekey' | 'keep';
export type RekeyReason = 'unchanged' | 'stale' | 'new' | 'recipients' | 'source' | 'altered';

export interface RekeyItem {
  /** In the release. */
  readonly path: string;
  /** In the source; the same, except for agenix-rekey. */
  readonly source: string;
  readonly action: RekeyAction;
  readonly reason: RekeyReason;
  readonly recipients: readonly HostRecipient[];
  /** Hosts that could not read the previous release's file and will read this one, and the reverse. */
  readonly granted: readonly string[];
  readonly revoked: readonly string[];
  readonly sourceSha256: string;
  readonly armored: boolean;
  readonly previous?: RecordedSecret;
}

export interface RekeyPlan {
  /** One for each file that the release will hold, by path. */
  readonly items: readonly RekeyItem[];
  /** Age files of the source tree that no host uses. */
  readonly remove: readonly string[];
  /** The set of re-keyers changed, so the record's key has to be encrypted anew. */
  readonly rewrapMacKey: boolean;
  readonly previousRecord: SecretsRecord;
  readonly rekeyers: readonly AgeRecipient[];
  /** Not empty: nothing may be applied. */
  readonly problems: readonly SecretProblem[];
}

export function planRekey(facts: RekeyFacts): RekeyPlan {
  const previous = new Map(facts.previousRecord.secrets.map((secret) => [secret.path, secret]));
  const readers = readersByPath(facts, previous);
  const sources = sourcesByPath(facts, previous);
  const planned = [...readers]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, hosts]) =>
      planFile({ path, source: sources.get(path) ?? path }, hosts, facts, previous.get(path)),
    );
  const items = planned.filter((one): one is RekeyItem => 'action' in one);
  // agenix-rekey's module hashes the editors' file when it looks for the host's: the release has to hold both
  const kept = new Set(items.flatMap((item) => (item.source === item.path ? [] : [item.source])));
  return {
    items,
    remove: facts.sourcePaths
      .filter((path) => isAgePath(path) && !readers.has(path) && !kept.has(path))
      .toSorted(),
    rewrapMacKey: items.length > 0 && rekeyersChanged(facts),
    previousRecord: facts.previousRecord,
    rekeyers: facts.rekeyers,
    problems: [...planned.filter((one) => 'code' in one), ...findConflicts(facts.uses)],
  };
}

/** Hosts by file: those that use it now, and stale hosts that could read it before. */
function readersByPath(
  facts: RekeyFacts,
  previous: ReadonlyMap<string, RecordedSecret>,
): ReadonlyMap<string, ReadonlySet<string>> {
  const readers = new Map<string, Set<string>>();
  const add = (path: string, host: string): void => {
    readers.set(path, (readers.get(path) ?? new Set()).add(host));
  };
  for (const use of facts.uses) add(use.path, use.host);
  for (const [path, secret] of previous) {
    for (const host of secret.hosts) if (facts.staleHosts.has(host)) add(path, host);
  }
  return readers;
}

function sourcesByPath(
  facts: RekeyFacts,
  previous: ReadonlyMap<string, RecordedSecret>,
): ReadonlyMap<string, string> {
  const recorded = [...previous].map(([path, secret]): [string, string] => [path, sourcePath(secret)]);
  return new Map([...recorded, ...facts.uses.map(({ path, source }): [string, string] => [path, source])]);
}

/** One file of the release cannot hold two secrets, nor be both the host's and the editors'. */
function findConflicts(uses: readonly SecretUse[]): SecretProblem[] {
  const taken = new Map<string, string>();
  for (const { path, source } of uses) taken.set(path, taken.get(path) ?? source);
  const wrong = uses.filter(
    ({ path, source }) => taken.get(path) !== source || (source !== path && taken.has(source)),
  );
  return [...new Set(wrong.map(({ path }) => path))].map((path) => ({
    code: 'rekey_storage',
    path,
    message: `${path} would have to hold two different files: a secret is used both directly and as a rekeyFile, or two are stored in one place.`,
    next: 'Give age.rekey.localStorageDir a folder of its own for each host, and each secret one way of use.',
  }));
}

function planFile(
  { path, source: sourceName }: Pick<RekeyItem, 'path' | 'source'>,
  hosts: ReadonlySet<string>,
  facts: RekeyFacts,
  previous: RecordedSecret | undefined,
): RekeyItem | SecretProblem {
  const source = facts.sources.get(sourceName);
  const recipients = recipientsOf([...hosts].toSorted(), facts);
  const problem = findProblem(sourceName, source, recipients, previous);
  if (problem !== undefined) return problem;
  const reason = findReason({ path, source }, recipients, facts, previous);
  if (source === undefined && reason !== 'stale') return previousMissing(sourceName);
  return {
    path,
    source: sourceName,
    action: ACTIONS[reason],
    reason,
    recipients,
    ...grants(recipients, previous),
    sourceSha256: source?.sha256 ?? previous?.sourceSha256 ?? '',
    armored: source?.armored ?? false,
    ...(previous !== undefined && { previous }),
  };
}

const ACTIONS: Readonly<Record<RekeyReason, RekeyAction>> = {
  unchanged: 'reuse',
  stale: 'keep',
  new: 'rekey',
  recipients: 'rekey',
  source: 'rekey',
  altered: 'rekey',
};

function recipientsOf(hosts: readonly string[], facts: RekeyFacts): HostRecipient[] {
  return hosts.flatMap((host) =>
    (facts.recipients.get(host) ?? []).map((recipient) => ({ host, recipient })),
  );
}

function findProblem(
  path: string,
  source: SourceFact | undefined,
  recipients: readonly HostRecipient[],
  previous: RecordedSecret | undefined,
): SecretProblem | undefined {
  if (source === undefined && previous === undefined) return sourceMissing(path);
  if (source?.fault !== undefined) return sourceMalformed(path, source.fault);
  if (mixesPostQuantum(recipients))
    return mixed(
      path,
      recipients.map((one) => one.host),
    );
  return undefined;
}

function findReason(
  { path, source }: { readonly path: string; readonly source: SourceFact | undefined },
  recipients: readonly HostRecipient[],
  facts: RekeyFacts,
  previous: RecordedSecret | undefined,
): RekeyReason {
  const file = facts.previousFiles.get(path);
  if (previous === undefined || file === undefined) return 'new';
  if (recipientKey(recipients) !== recordedKey(facts.previousRecord, previous)) return 'recipients';
  if (sha256Hex(file) !== previous.releaseSha256) return 'altered';
  const expected = recipients.map((one) => one.recipient);
  if (findRecipientFault(file, expected) !== undefined) return 'altered';
  if (source === undefined) return 'stale';
  return source.sha256 === previous.sourceSha256 ? 'unchanged' : 'source';
}

/** Equal keys are equal readers. The host's name counts too: it stands in the record. */
function recipientKey(recipients: readonly HostRecipient[]): string {
  return keyOf(recipients.map((one) => `${one.host} ${one.recipient.fingerprint}`));
}

function recordedKey(record: SecretsRecord, secret: RecordedSecret): string {
  return keyOf(recordedRecipients(record, secret).map((one) => `${one.host} ${one.fingerprint}`));
}

function keyOf(names: readonly string[]): string {
  return names.toSorted().join('\n');
}

function grants(
  recipients: readonly HostRecipient[],
  previous: RecordedSecret | undefined,
): { granted: string[]; revoked: string[] } {
  const now = new Set(recipients.map((one) => one.host));
  const before = new Set(previous?.hosts);
  return {
    granted: [...now].filter((host) => !before.has(host)),
    revoked: [...before].filter((host) => !now.has(host)),
  };
}

function rekeyersChanged(facts: RekeyFacts): boolean {
  if (facts.rekeyers.length === 0) return false;
  const wanted = keyOf(facts.rekeyers.map((one) => one.fingerprint));
  return wanted !== keyOf(facts.previousRecord.rekeyers);
}

function mixesPostQuantum(recipients: readonly HostRecipient[]): boolean {
  const some = recipients.filter((one) => isPostQuantum(one.recipient)).length;
  return some > 0 && some < recipients.length;
}

function mixed(path: string, hosts: readonly string[]): SecretProblem {
  return {
    code: 'recipients_mixed',
    path,
    message: `${path} is shared by hosts with and without post-quantum keys (${hosts.toSorted().join(', ')}).`,
    next: 'Give all of them age1pq1… keys, or none; or give them files of their own.',
  };
}

function sourceMissing(path: string): SecretProblem {
  return {
    code: 'file_missing',
    path,
    message: `The file ${path} is not in the commit.`,
    next: 'Write it with "slipway secrets put", and "git add" it.',
  };
}

function sourceMalformed(path: string, fault: string): SecretProblem {
  return {
    code: 'source_malformed',
    path,
    message: `${path}: ${fault}`,
    next: `Write it again: slipway secrets put ${path} < value`,
  };
}

function previousMissing(path: string): SecretProblem {
  return {
    code: 'previous_missing',
    path,
    message: `${path} is gone from the source, but a host that could not be evaluated still uses it.`,
    next: 'Repair that host’s configuration first, or bring the file back for this release.',
  };
}
