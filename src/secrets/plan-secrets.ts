// The way in for the pipeline: gathers what planning needs from the two trees, and plans. Reads ciphertext and public
// keys only; needs no private key.
import { parseAgeHeader } from '../age/age-header.ts';
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { messageOf } from '../util/errors.ts';
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
import { sha256Hex, type SourceTree } from './source-tree.ts';

export interface SecretsHost {
  /** Key lines from the fleet configuration. */
  readonly publicKeys: readonly string[];
  /** What the evaluation said; undefined when it failed: then the host keeps what it had. */
  readonly secrets: HostSecrets | undefined;
}

export interface SecretsRequest {
  readonly hosts: Readonly<Record<string, SecretsHost>>;
  /** Store path of the evaluated source's root. */
  readonly sourceRoot: string;
  readonly source: SourceTree;
  /** The previous release's tree. The caller vouches for it (its signed manifest): it is reused as it is. */
  readonly previous?: SourceTree;
  /** Public keys of the re-keyers (`slipway.secrets.rekeyer`), if configured. */
  readonly rekeyers?: readonly string[];
}

/** The plan; its `problems` hold everything that is wrong, at once. */
export async function planSecrets(request: SecretsRequest): Promise<RekeyPlan> {
  const evaluated = evaluatedSecrets(request);
  const sources = await readSources(request, evaluated);
  const hashes = new Map([...sources].map(([path, fact]) => [path, fact.sha256]));
  const paths = new Set(request.source.paths);
  const found = findSecretUses({ hosts: evaluated, sourceRoot: request.sourceRoot, hashes, paths });
  const previousRecord = await readRecord(request.previous);
  const staleHosts = new Set(Object.keys(request.hosts).filter((host) => !(host in evaluated)));
  const readers = new Set(found.uses.map((use) => use.host));
  for (const host of previousRecord.secrets.flatMap((secret) => secret.hosts)) {
    if (staleHosts.has(host)) readers.add(host);
  }
  const keys = new Map([...readers].toSorted().map((host) => [host, request.hosts[host]?.publicKeys ?? []]));
  const recipients = findHostRecipients(keys);
  const rekeyers = parseRekeyers(request.rekeyers ?? []);
  const plan = planRekey({
    uses: found.uses,
    recipients: recipients.byHost,
    sources,
    sourcePaths: request.source.paths,
    previousRecord,
    previousFiles: await readFiles(
      request.previous,
      previousRecord.secrets.map((secret) => secret.path),
    ),
    staleHosts,
    rekeyers: rekeyers.keys,
  });
  const problems = [...found.problems, ...recipients.problems, ...rekeyers.problems, ...plan.problems];
  return { ...plan, problems };
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

async function readRecord(previous: SourceTree | undefined): Promise<SecretsRecord> {
  const [bytes] = (await previous?.read([SECRETS_RECORD_PATH])) ?? [];
  return (bytes && parseSecretsRecord(bytes)) ?? EMPTY_RECORD;
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
