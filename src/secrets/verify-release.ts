// The proof before publishing: every secret of a release tree opens for exactly its recipients and nobody else, and no
// age file got in beside them. Structural from the files alone; with the re-key identity also by trying to read.
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { findRecipientFault } from './recipient-check.ts';
import { findReadable, type RekeyProcessOptions } from './rekey-process.ts';
import { isAgePath } from './secret-path.ts';
import type { SecretProblem } from './secret-problem.ts';
import {
  EMPTY_RECORD,
  parseSecretsRecord,
  recordedRecipients,
  sourcePath,
  SECRETS_RECORD_PATH,
  type RecordedRecipient,
  type RecordedSecret,
  type SecretsRecord,
} from './secrets-record.ts';
import { sha256Hex, type SourceTree } from './source-tree.ts';

export interface ReleaseFacts {
  readonly tree: SourceTree;
  /** Key lines of each host, from the fleet configuration: the record is not trusted to say who a host is. */
  readonly hostKeys: Readonly<Record<string, readonly string[]>>;
  /** Key lines of editors, to name them when one of them can read a release file. */
  readonly editors?: readonly string[];
  /** Which host uses which file, when the release was evaluated: all must be in the record, for that host. */
  readonly uses?: readonly { readonly host: string; readonly path: string }[];
  /** Hosts of which `uses` says everything: what they do not use, they must not be able to read either. */
  readonly evaluated?: ReadonlySet<string>;
}

/** Everything that is wrong with the secrets of a release tree; empty when it may be published. */
export async function verifyRelease(facts: ReleaseFacts): Promise<readonly SecretProblem[]> {
  const [bytes] = await facts.tree.read([SECRETS_RECORD_PATH]);
  const record = bytes === undefined ? undefined : parseSecretsRecord(bytes);
  if (bytes !== undefined && record === undefined) return [badRecord()];
  const secrets = record?.secrets ?? [];
  const files = await facts.tree.read(secrets.map((secret) => secret.path));
  const keys = parseHostKeys(facts.hostKeys);
  const strangers = nameStrangers(facts, keys);
  return [
    ...secrets.flatMap((secret, index) =>
      verifyFile(
        { secret, recipients: recordedRecipients(record ?? EMPTY_RECORD, secret) },
        files[index],
        keys,
        strangers,
      ),
    ),
    ...(await findChangedSources(facts.tree, secrets)),
    ...findUnmanaged(facts.tree, secrets),
    ...findUncovered(facts.uses ?? [], secrets),
    ...findUnused(facts, secrets),
  ];
}

/** Tries to open every secret of the release with an identity that is nobody's host. */
export async function verifyUnreadable(
  tree: SourceTree,
  record: SecretsRecord,
  options: RekeyProcessOptions,
): Promise<readonly SecretProblem[]> {
  const paths = record.secrets.map((secret) => secret.path);
  const blobs = (await tree.read(paths)).map((file) => file ?? Buffer.alloc(0));
  const readable = await findReadable({ head: { version: 1, task: 'cannot-read', paths }, blobs }, options);
  return readable.map((path) => ({
    code: 'rekeyer_can_read',
    path,
    message: `${path} can be opened by the re-key identity.`,
    next: 'Re-key it: it is not encrypted for its hosts alone.',
  }));
}

function verifyFile(
  { secret, recipients }: { secret: RecordedSecret; recipients: readonly RecordedRecipient[] },
  file: Buffer | undefined,
  keys: ReadonlyMap<string, AgeRecipient>,
  strangers: ReadonlyMap<string, string>,
): SecretProblem[] {
  const { path } = secret;
  if (file === undefined) return [missing(path)];
  if (sha256Hex(file) !== secret.releaseSha256) return [differs(path)];
  const keyless = secret.hosts.filter((host) => !recipients.some((one) => one.host === host));
  if (keyless.length > 0) return [wrongRecipients(path, `The record knows no key of ${keyless.join(', ')}.`)];
  const unknown = recipients.filter((one) => !keys.has(keyName(one)));
  if (unknown.length > 0) return [unknownKey(path, unknown)];
  const expected = new Map(recipients.map((one) => [one.fingerprint, keys.get(keyName(one))]));
  const fault = findRecipientFault(
    file,
    [...expected.values()].filter((one) => one !== undefined),
    strangers,
  );
  return fault === undefined ? [] : [wrongRecipients(path, fault)];
}

function parseHostKeys(hostKeys: ReleaseFacts['hostKeys']): ReadonlyMap<string, AgeRecipient> {
  const keys = new Map<string, AgeRecipient>();
  for (const [host, lines] of Object.entries(hostKeys)) {
    for (const line of lines) {
      const recipient = tryRecipient(line);
      if (recipient) keys.set(keyName({ host, fingerprint: recipient.fingerprint }), recipient);
    }
  }
  return keys;
}

function nameStrangers(facts: ReleaseFacts, keys: ReadonlyMap<string, AgeRecipient>): Map<string, string> {
  const editors = (facts.editors ?? []).flatMap((line): [string, string][] => {
    const recipient = tryRecipient(line);
    const comment = line.trim().split(/\s+/)[2] ?? recipient?.fingerprint ?? '';
    return recipient?.tag === undefined ? [] : [[recipient.tag, `the editor ${comment}`]];
  });
  const hosts = [...keys].flatMap(([name, recipient]): [string, string][] =>
    recipient.tag === undefined ? [] : [[recipient.tag, `the host ${name.split(' ')[0] ?? ''}`]],
  );
  return new Map([...editors, ...hosts]);
}

function keyName(one: Pick<RecordedRecipient, 'host' | 'fingerprint'>): string {
  return `${one.host} ${one.fingerprint}`;
}

function tryRecipient(line: string): AgeRecipient | undefined {
  try {
    return parseAgeRecipient(line);
  } catch {
    return undefined; // a host with an unusable key has no secrets: planning said so
  }
}

/** What agenix-rekey's module reads beside the hosts' files: the editors' ciphertext, byte for byte. */
async function findChangedSources(
  tree: SourceTree,
  secrets: readonly RecordedSecret[],
): Promise<SecretProblem[]> {
  const kept = secrets.filter((secret) => sourcePath(secret) !== secret.path);
  const files = await tree.read(kept.map(sourcePath));
  return kept.flatMap((secret, index) => {
    const file = files[index];
    if (file === undefined) return [missing(sourcePath(secret))];
    return sha256Hex(file) === secret.sourceSha256 ? [] : [differs(sourcePath(secret))];
  });
}

function findUnmanaged(tree: SourceTree, secrets: readonly RecordedSecret[]): SecretProblem[] {
  const managed = new Set(secrets.flatMap((secret) => [secret.path, sourcePath(secret)]));
  const strays = tree.paths.filter((path) => isAgePath(path) && !managed.has(path));
  return strays.map((path) => ({
    code: 'release_unmanaged',
    path,
    message: `${path} is in the release but was not re-keyed: its readers are unknown.`,
    next: 'Make the release again; files that no host uses are left out of it.',
  }));
}

function findUncovered(
  uses: NonNullable<ReleaseFacts['uses']>,
  secrets: readonly RecordedSecret[],
): SecretProblem[] {
  const readers = new Map(secrets.map((secret) => [secret.path, new Set(secret.hosts)]));
  const uncovered = uses.filter((use) => readers.get(use.path)?.has(use.host) !== true);
  return uncovered.map(({ host, path }) => ({
    code: 'release_file_missing',
    host,
    path,
    message: `${host} uses ${path}, which the release does not encrypt for it.`,
    next: 'Make the release again: the configuration changed after it was planned.',
  }));
}

/** A flake can look at its own commit, so the release may evaluate to another set than its source did. */
function findUnused(facts: ReleaseFacts, secrets: readonly RecordedSecret[]): SecretProblem[] {
  const used = new Set((facts.uses ?? []).map(({ host, path }) => `${host} ${path}`));
  return secrets.flatMap(({ path, hosts }) =>
    hosts
      .filter((host) => facts.evaluated?.has(host) === true && !used.has(`${host} ${path}`))
      .map((host) => unused(host, path)),
  );
}

function unused(host: string, path: string): SecretProblem {
  return {
    code: 'release_unused',
    host,
    path,
    message: `${host} can read ${path} in the release, but the release's own configuration does not use it.`,
    next: 'The configuration must not depend on its commit (self.rev); or something changed it after it was planned.',
  };
}

function missing(path: string): SecretProblem {
  return {
    code: 'release_file_missing',
    path,
    message: `${path} is recorded but not in the release.`,
    next: 'Make the release again.',
  };
}

function differs(path: string): SecretProblem {
  return {
    code: 'release_file_differs',
    path,
    message: `${path} is not the file that was re-keyed: its hash differs from the record.`,
    next: 'Somebody changed the release branch. Find out who, then make the release again.',
  };
}

function unknownKey(path: string, unknown: readonly RecordedRecipient[]): SecretProblem {
  const names = unknown.map((one) => `${one.host} (${one.fingerprint})`).join(', ');
  return {
    code: 'release_recipients_wrong',
    path,
    message: `${path} is encrypted for keys that the configuration does not give to those hosts: ${names}.`,
    next: 'Make the release again, so that it is encrypted for the keys of today.',
  };
}

function wrongRecipients(path: string, fault: string): SecretProblem {
  return {
    code: 'release_recipients_wrong',
    path,
    message: `${path}: ${fault}`,
    next: 'Make the release again, and treat the secret as known to whoever could read it.',
  };
}

function badRecord(): SecretProblem {
  return {
    code: 'record_wrong',
    path: SECRETS_RECORD_PATH,
    message: `${SECRETS_RECORD_PATH} cannot be read.`,
    next: 'Make the release again.',
  };
}
