// Carries a re-key plan out: lets the child write the new ciphertexts, and returns what changes in the tree. All or
// nothing: any file that cannot be re-keyed fails the whole with every such file named.
import { assertNoProblems, type SecretProblem, type SecretProblemCode } from './secret-problem.ts';
import type { JobFailure, JobResult, RekeyMessage, RekeyReply, RekeyRequest } from './rekey-message.ts';
import type { SecretsPlan } from './plan-secrets.ts';
import type { RekeyItem } from './rekey-plan.ts';
import { runRekey, type RekeyProcessOptions } from './rekey-process.ts';
import {
  formatSecretsRecord,
  SECRETS_RECORD_PATH,
  type RecordedKey,
  type RecordedSecret,
  type SecretsRecord,
} from './secrets-record.ts';
import { sha256Hex, type SourceTree } from './source-tree.ts';
import { SlipwayError } from '../util/errors.ts';

export interface ApplyRekeyOptions extends Omit<RekeyProcessOptions, 'identity'> {
  readonly source: SourceTree;
  /** The previous release's tree; not needed when there was none. */
  readonly previous?: SourceTree;
  /** The re-key identity's private key file. Not needed (and not used) when the plan makes nothing new. */
  readonly identity?: Uint8Array;
}

/** A change to the source tree: a file's new bytes, or `undefined` where it is left out. */
export interface TreeFileChange {
  readonly path: string;
  readonly bytes: Buffer | undefined;
}

export interface RekeyOutcome {
  /** By path; together with the source tree they are the release tree. Includes the record. */
  readonly changes: readonly TreeFileChange[];
  readonly record: SecretsRecord;
  readonly counts: { readonly reused: number; readonly rekeyed: number; readonly removed: number };
}

interface Made {
  readonly file: Buffer;
  readonly mac: string | undefined;
  readonly fresh: boolean;
}

export async function applyRekey(plan: SecretsPlan, options: ApplyRekeyOptions): Promise<RekeyOutcome> {
  assertNoProblems(plan.problems);
  const jobs = plan.items.filter((item) => item.action === 'rekey');
  const canRewrap = plan.rewrapMacKey && options.identity !== undefined;
  const reply = jobs.length > 0 || canRewrap ? await askChild(plan, jobs, options) : undefined;
  const old = await readPrevious(plan, options);
  const made = new Map<string, Made>();
  for (const item of plan.items) {
    if (item.action !== 'rekey') {
      const mac = reply?.head.macKeyLost === true ? undefined : item.previous?.plaintextMac;
      made.set(item.path, { file: old(item.path), mac, fresh: false });
    }
  }
  if (reply !== undefined) collect(jobs, reply, old, made);
  const record = newRecord(plan, made, reply);
  return { changes: listChanges(plan, made, record), record, counts: countOutcome(plan, made) };
}

/** What re-keying would stumble over, for a plan that is not going to be applied: so that a person sees all at once. */
export async function findRekeyProblems(
  plan: SecretsPlan,
  options: ApplyRekeyOptions,
): Promise<readonly SecretProblem[]> {
  // A file of readers without keys cannot be tried; that they have none is told already.
  const jobs = plan.items.filter((item) => item.action === 'rekey' && item.recipients.length > 0);
  if (jobs.length === 0 || options.identity === undefined) return [];
  return jobProblems(jobs, await runJobs(plan, jobs, { ...options, identity: options.identity }));
}

async function askChild(
  plan: SecretsPlan,
  jobs: readonly RekeyItem[],
  options: ApplyRekeyOptions,
): Promise<RekeyMessage<RekeyReply>> {
  if (options.identity === undefined) throw noIdentity(jobs);
  const reply = await runJobs(plan, jobs, { ...options, identity: options.identity });
  assertNoProblems(jobProblems(jobs, reply));
  return reply;
}

async function runJobs(
  plan: SecretsPlan,
  jobs: readonly RekeyItem[],
  options: ApplyRekeyOptions & { readonly identity: Uint8Array },
): Promise<RekeyMessage<RekeyReply>> {
  const sources = await readSources(jobs, options.source);
  const { source: _source, previous: _previous, ...process } = options;
  return await runRekey(formatRequest(plan, jobs, sources), process);
}

function jobProblems(jobs: readonly RekeyItem[], reply: RekeyMessage<RekeyReply>): SecretProblem[] {
  return jobs.flatMap((job, index) => jobProblem(job, reply.head.results[index]));
}

function formatRequest(
  plan: SecretsPlan,
  jobs: readonly RekeyItem[],
  sources: readonly Buffer[],
): RekeyMessage<RekeyRequest> {
  const texts = new Map<string, number>();
  const indexOf = (text: string): number => {
    const index = texts.get(text) ?? texts.size;
    texts.set(text, index);
    return index;
  };
  const { macKey } = plan.previousRecord;
  const head: RekeyRequest = {
    version: 1,
    task: 'rekey',
    rekeyers: plan.rekeyers.map((one) => indexOf(one.text)),
    hasMacKey: macKey !== undefined,
    rewrapMacKey: plan.rewrapMacKey,
    jobs: jobs.map((job) => ({
      path: job.source,
      recipients: job.recipients.map((one) => indexOf(one.recipient.text)),
      armored: job.armored,
      ...(job.reason === 'source' &&
        job.previous?.plaintextMac !== undefined && { previousMac: job.previous.plaintextMac }),
    })),
    recipients: [...texts.keys()],
  };
  return { head, blobs: macKey === undefined ? sources : [...sources, Buffer.from(macKey)] };
}

async function readSources(jobs: readonly RekeyItem[], source: SourceTree): Promise<readonly Buffer[]> {
  const files = await source.read(jobs.map((job) => job.source));
  return jobs.map((job, index) => {
    const file = files[index];
    if (file !== undefined && sha256Hex(file) === job.sourceSha256) return file;
    throw new SlipwayError('conflict', `${job.source} changed while the release was planned.`, {
      next: 'Run it again.',
    });
  });
}

async function readPrevious(
  plan: SecretsPlan,
  options: ApplyRekeyOptions,
): Promise<(path: string) => Buffer> {
  const paths = plan.items.flatMap((item) => (item.previous === undefined ? [] : [item.path]));
  const files = (await options.previous?.read(paths)) ?? [];
  const byPath = new Map(paths.map((path, index) => [path, files[index]]));
  return (path) => {
    const file = byPath.get(path);
    if (file !== undefined) return file;
    throw new SlipwayError('internal', `The previous release no longer has ${path}.`);
  };
}

function collect(
  jobs: readonly RekeyItem[],
  reply: RekeyMessage<RekeyReply>,
  old: (path: string) => Buffer,
  made: Map<string, Made>,
): void {
  const fresh = reply.blobs.values();
  for (const [index, job] of jobs.entries()) {
    const result = reply.head.results[index];
    if (result === undefined || result.outcome === 'failed')
      throw new SlipwayError('internal', 'A result is missing.');
    const file = result.outcome === 'same' ? old(job.path) : fresh.next().value;
    if (file === undefined) throw new SlipwayError('internal', 'A re-keyed file is missing.');
    made.set(job.path, { file, mac: result.mac, fresh: result.outcome === 'rekeyed' });
  }
}

function newRecord(
  plan: SecretsPlan,
  made: ReadonlyMap<string, Made>,
  reply: RekeyMessage<RekeyReply> | undefined,
): SecretsRecord {
  return {
    version: 1,
    ...recordKeeping(plan, reply),
    ...(plan.editors.length > 0 && { editors: [...plan.editors] }),
    ...(Object.keys(plan.tags).length > 0 && { tags: copyTags(plan.tags) }),
    hosts: recordHosts(plan.items),
    secrets: plan.items.map((item) => recordItem(item, made.get(item.path))),
  };
}

/** Who re-keys, and the key of the MACs: as they were, unless the child made or wrapped the key anew. */
function recordKeeping(
  plan: SecretsPlan,
  reply: RekeyMessage<RekeyReply> | undefined,
): Pick<SecretsRecord, 'rekeyers' | 'macKey' | 'macKeyId'> {
  const { previousRecord, items } = plan;
  const renewed = reply?.head.newMacKey === true;
  const rekeyers = renewed ? [...reply.head.rekeyers] : previousRecord.rekeyers;
  const macKey = renewed ? reply.blobs.at(-1)?.toString() : previousRecord.macKey;
  const macKeyId = reply?.head.macKeyId ?? previousRecord.macKeyId;
  if (macKey === undefined || items.length === 0) return { rekeyers };
  return { rekeyers, macKey, ...(macKeyId !== undefined && { macKeyId }) };
}

function copyTags(tags: SecretsPlan['tags']): NonNullable<SecretsRecord['tags']> {
  return Object.fromEntries(Object.entries(tags).map(([host, names]) => [host, [...names]]));
}

function recordItem(item: RekeyItem, made: Made | undefined): RecordedSecret {
  if (made === undefined) throw new SlipwayError('internal', `${item.path} was not re-keyed.`);
  return {
    path: item.path,
    ...(item.source !== item.path && { source: item.source }),
    sourceSha256: item.sourceSha256,
    releaseSha256: sha256Hex(made.file),
    ...(made.mac !== undefined && { plaintextMac: made.mac }),
    hosts: [...new Set(item.recipients.map((one) => one.host))],
  };
}

function recordHosts(items: readonly RekeyItem[]): SecretsRecord['hosts'] {
  const hosts = new Map<string, Map<string, RecordedKey>>();
  for (const { host, recipient } of items.flatMap((item) => item.recipients)) {
    const keys = hosts.get(host) ?? new Map<string, RecordedKey>();
    hosts.set(
      host,
      keys.set(recipient.fingerprint, { type: recipient.type, fingerprint: recipient.fingerprint }),
    );
  }
  return Object.fromEntries([...hosts].map(([host, keys]) => [host, [...keys.values()]]));
}

function listChanges(
  plan: SecretsPlan,
  made: ReadonlyMap<string, Made>,
  record: SecretsRecord,
): readonly TreeFileChange[] {
  const files = [...made].map(([path, one]) => ({ path, bytes: one.file }));
  const gone = plan.remove.map((path) => ({ path, bytes: undefined }));
  // Once there is a record it stays, also without secrets: the next grants are judged by it.
  const needed = plan.items.length > 0 || plan.grants.recorded;
  const recordBytes = needed ? formatSecretsRecord(record) : undefined;
  return [...files, ...gone, { path: SECRETS_RECORD_PATH, bytes: recordBytes }].toSorted((a, b) =>
    a.path < b.path ? -1 : 1,
  );
}

function countOutcome(plan: SecretsPlan, made: ReadonlyMap<string, Made>): RekeyOutcome['counts'] {
  const rekeyed = [...made.values()].filter((one) => one.fresh).length;
  return { rekeyed, reused: made.size - rekeyed, removed: plan.remove.length };
}

function jobProblem(job: RekeyItem, result: JobResult | undefined): SecretProblem[] {
  if (result?.outcome !== 'failed') return [];
  const path = job.source;
  const { code, message, next } = FAILURES[result.failure];
  return [{ code, path, message: `${path} ${message}`, next: next.replace('PATH', path) }];
}

interface FailureText {
  readonly code: SecretProblemCode;
  readonly message: string;
  readonly next: string;
}

const DAMAGED: FailureText = {
  code: 'source_damaged',
  message: 'is damaged: it names the re-key identity but does not open.',
  next: 'Bring it back from an earlier commit: git checkout COMMIT -- PATH',
};

const FAILURES: Readonly<Record<JobFailure, FailureText>> = {
  undecryptable: {
    code: 'source_undecryptable',
    message: 'is not encrypted to the re-key identity.',
    next: 'An editor adds the re-keyer’s public key to the file’s recipients: agenix --rekey, or slipway secrets put PATH < value',
  },
  malformed: DAMAGED,
  damaged: DAMAGED,
  empty: {
    code: 'plaintext_empty',
    message: 'holds an empty secret, which no host can install.',
    next: 'Give it a value (slipway secrets put PATH < value), or take it out of the configuration.',
  },
  readable: {
    code: 'rekeyer_can_read',
    message: 'could still be opened by the re-key identity after re-keying.',
    next: 'This must never happen; nothing was published. Please report it.',
  },
};

function noIdentity(jobs: readonly RekeyItem[]): SlipwayError {
  return new SlipwayError(
    'secrets_failed',
    `${jobs.length} secrets must be re-keyed, but there is no re-key identity.`,
    {
      next: 'Give --rekey-identity FILE (an age or SSH private key that the files on the source branch are encrypted to).',
      facts: { paths: jobs.map((job) => job.path) },
    },
  );
}
