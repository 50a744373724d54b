// The way in for the pipeline: gathers what planning needs from the two trees, and plans. Reads ciphertext and public
// keys only; needs no private key.
import { parseAgeHeader } from '../age/age-header.ts';
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { messageOf } from '../util/errors.ts';
import { gatherGrants } from './gather-grants.ts';
import { planGrants, type GrantPlan } from './grant-plan.ts';
import { findHostRecipients } from './host-recipients.ts';
import type { HostSecrets } from './host-secrets.ts';
import { planRekey, type RekeyPlan, type SourceFact } from './rekey-plan.ts';
import { isAgePath } from './secret-path.ts';
import type { SecretProblem } from './secret-problem.ts';
import { findSecretUses, pathUnderRoot } from './secret-uses.ts';
import {
  EMPTY_RECORD,
  parseSecretsRecord,
  SECRETS_RECORD_PATH,
  type SecretsRecord,
} from './secrets-record.ts';
import type { SecretsRequest } from './secrets-request.ts';
import { sha256Hex, type SourceTree } from './source-tree.ts';

export interface SecretsPlan extends RekeyPlan {
  readonly grants: GrantPlan;
  /** What works and is not good, or is left alone on purpose. */
  readonly warnings: readonly SecretProblem[];
  /** Fingerprints of the editors, for the record. */
  readonly editors: readonly string[];
  /** Tags of all hosts that have some, for the record. */
  readonly tags: Readonly<Record<string, readonly string[]>>;
}

/** The plan; its `problems` hold everything that is wrong, at once. Whether its grants are approved is not among them. */
export async function planSecrets(request: SecretsRequest): Promise<SecretsPlan> {
  const { record, problem } = await readRecord(request.previous);
  const recipients = parseRekeyers(request.rekeyers ?? []);
  const taken = request.pool === undefined ? record : (await readRecord(request.pool)).record;
  const { plan, problems, warnings } = await planFiles(request, taken ?? EMPTY_RECORD, recipients.keys);
  const facts = await gatherGrants(request, plan, record);
  const wrong = [...(problem ? [problem] : []), ...problems, ...recipients.problems, ...facts.problems];
  const { editors, tags } = facts.facts;
  return { ...plan, grants: planGrants(facts.facts), editors, tags, warnings, problems: wrong };
}

interface PlannedFiles {
  readonly plan: RekeyPlan;
  readonly warnings: readonly SecretProblem[];
  readonly problems: readonly SecretProblem[];
}

async function planFiles(
  request: SecretsRequest,
  previousRecord: SecretsRecord,
  rekeyers: readonly AgeRecipient[],
): Promise<PlannedFiles> {
  const evaluated = evaluatedSecrets(request);
  const sources = await readSources(request, evaluated);
  const hashes = new Map([...sources].map(([path, fact]) => [path, fact.sha256]));
  const paths = new Set(request.source.paths);
  const { sourceRoot, unmanaged = [] } = request;
  const found = findSecretUses({ hosts: evaluated, sourceRoot, hashes, paths, unmanaged });
  const staleHosts = new Set(Object.keys(request.hosts).filter((host) => !(host in evaluated)));
  const readers = new Set(found.uses.map((use) => use.host));
  for (const host of previousRecord.secrets.flatMap((secret) => secret.hosts)) {
    if (staleHosts.has(host)) readers.add(host);
  }
  const keys = new Map([...readers].toSorted().map((host) => [host, request.hosts[host]?.publicKeys ?? []]));
  const recipients = findHostRecipients(keys);
  const plan = planRekey({
    uses: found.uses,
    recipients: recipients.byHost,
    sources,
    sourcePaths: request.source.paths,
    previousRecord,
    previousFiles: await readFiles(
      request.pool ?? request.previous,
      previousRecord.secrets.map((secret) => secret.path),
    ),
    staleHosts,
    rekeyers,
  });
  return {
    plan,
    warnings: found.warnings,
    problems: [...found.problems, ...recipients.problems, ...plan.problems],
  };
}

function evaluatedSecrets(request: SecretsRequest): Record<string, HostSecrets> {
  return Object.fromEntries(
    Object.entries(request.hosts).flatMap(([host, { secrets }]) => (secrets ? [[host, secrets]] : [])),
  );
}

/** Facts of every file that is or could be a secret: age files by name, and whatever hosts name under the root. */
async function readSources(
  request: SecretsRequest,
  evaluated: Readonly<Record<string, HostSecrets>>,
): Promise<ReadonlyMap<string, SourceFact>> {
  const named = Object.values(evaluated)
    .flatMap((secrets) => Object.values(secrets))
    .flatMap((secret) => pathUnderRoot(secret.file, request.sourceRoot) ?? []);
  const known = new Set(request.source.paths);
  const wanted = new Set([
    ...request.source.paths.filter(isAgePath),
    ...named.filter((path) => known.has(path)),
  ]);
  const files = await readFiles(request.source, [...wanted]);
  return new Map([...files].map(([path, file]) => [path, sourceFact(file)]));
}

async function readFiles(
  tree: SourceTree | undefined,
  paths: readonly string[],
): Promise<ReadonlyMap<string, Buffer>> {
  const files = paths.length === 0 ? [] : ((await tree?.read(paths)) ?? []);
  return new Map(
    paths.flatMap((path, index) => {
      const file = files[index];
      return file === undefined ? [] : [[path, file]];
    }),
  );
}

function sourceFact(file: Buffer): SourceFact {
  const sha256 = sha256Hex(file);
  try {
    return { sha256, armored: parseAgeHeader(file).armored };
  } catch (error) {
    return { sha256, armored: false, fault: messageOf(error) };
  }
}

async function readRecord(
  previous: SourceTree | undefined,
): Promise<{ record?: SecretsRecord; problem?: SecretProblem }> {
  const [bytes] = (await previous?.read([SECRETS_RECORD_PATH])) ?? [];
  if (bytes === undefined) return {};
  const record = parseSecretsRecord(bytes);
  return record === undefined ? { problem: strangeRecord() } : { record };
}

function parseRekeyers(lines: readonly string[]): { keys: AgeRecipient[]; problems: SecretProblem[] } {
  const keys: AgeRecipient[] = [];
  const problems: SecretProblem[] = [];
  for (const line of lines) {
    try {
      keys.push(parseAgeRecipient(line));
    } catch (error) {
      const message = `slipway.secrets.rekeyer: ${messageOf(error)}`;
      problems.push({
        code: 'rekeyer_unusable',
        message,
        next: 'Give the public half of the re-key identity.',
      });
    }
  }
  return { keys, problems };
}

/** Without it every reader would look like one that was there before. */
function strangeRecord(): SecretProblem {
  return {
    code: 'record_wrong',
    path: SECRETS_RECORD_PATH,
    message: `${SECRETS_RECORD_PATH} of the last release cannot be read, so nobody knows who could read what.`,
    next: 'A newer Slipway may have written it: use that one.',
  };
}
