// How long re-keying takes: 300 secrets that 50 hosts use, from a git repository to a tree in it, and the same by
// the plain age program. `npm run bench:secrets -- --json`: the last line is one JSON object.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { listTree, readBlobs, writeBlobs, writeTree } from '../src/effects/git-tree.ts';
import { applyRekey, type RekeyOutcome } from '../src/secrets/apply-rekey.ts';
import { planSecrets } from '../src/secrets/plan-secrets.ts';
import type { SecretsRequest } from '../src/secrets/secrets-request.ts';
import { makeKey, makeRequest, seal, type ThrowAwayKey } from '../src/secrets/secret-fleet.arbitrary.ts';
import type { SourceTree } from '../src/secrets/source-tree.ts';
import { verifyRelease } from '../src/secrets/verify-release.ts';

interface Scenario {
  readonly name: string;
  readonly secrets: number;
  readonly hosts: number;
  /** Hosts that use each secret. */
  readonly readers: number;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'shared', secrets: 300, hosts: 50, readers: 50 },
  { name: 'own', secrets: 300, hosts: 50, readers: 1 },
];

const { values } = parseArgs({ options: { json: { type: 'boolean' }, 'skip-age': { type: 'boolean' } } });
const results = [];
for (const scenario of SCENARIOS) {
  const result = await measure(scenario);
  results.push(result);
  console.log(`${scenario.name}: ${JSON.stringify(result)}`);
}
const [shared] = results;
const summary = {
  bench: 'secrets',
  ok: shared !== undefined && shared.coldMs < 10_000 && shared.unchangedMs < 2_000,
  limits: { coldMs: 10_000, unchangedMs: 2_000 },
  results,
};
if (values.json === true) console.log(JSON.stringify(summary));

async function measure(
  scenario: Scenario,
): Promise<Scenario & Record<'coldMs' | 'unchangedMs' | 'editorAddedMs', number>> {
  const dir = mkdtempSync(path.join(tmpdir(), 'slipway-bench-'));
  try {
    return await measureIn(dir, scenario);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

async function measureIn(dir: string, scenario: Scenario) {
  const repository = path.join(dir, 'fleet.git');
  execFileSync('git', ['init', '-q', '--bare', repository]);
  const world = await makeWorld(scenario);
  const empty = execFileSync('git', ['--git-dir', repository, 'mktree'], { input: '' }).toString().trim();
  const source = await storeTree(repository, empty, world.files);
  const cold = await timed(async () => await releaseTree(repository, world, source));
  const again = await timed(async () => await releaseTree(repository, world, source, cold.value.tree));
  const edited = { ...world, files: await resealed(world) };
  const editedTree = await storeTree(repository, empty, edited.files);
  const editor = await timed(async () => await releaseTree(repository, edited, editedTree, cold.value.tree));
  const plain = values['skip-age'] === true ? undefined : timeAge(dir, world, scenario);
  return {
    ...scenario,
    stanzas: scenario.secrets * scenario.readers,
    coldMs: cold.ms,
    unchangedMs: again.ms,
    unchangedSameTree: again.value.tree === cold.value.tree,
    editorAddedMs: editor.ms,
    editorAddedRekeyed: editor.value.outcome.counts.rekeyed,
    ...(plain !== undefined && { ageMs: plain, ageToSlipway: round(plain / cold.ms) }),
  };
}

interface World {
  readonly rekeyer: ThrowAwayKey;
  readonly editor: ThrowAwayKey;
  readonly keys: Readonly<Record<string, ThrowAwayKey>>;
  readonly uses: Readonly<Record<string, readonly string[]>>;
  readonly files: ReadonlyMap<string, Buffer>;
}

async function makeWorld(scenario: Scenario): Promise<World> {
  const hosts = Array.from({ length: scenario.hosts }, (_, index) => `host${index}`);
  const paths = Array.from({ length: scenario.secrets }, (_, index) => `secrets/s${index}.age`);
  const [rekeyer, editor] = [makeKey('rekeyer'), makeKey('editor')];
  const files = new Map<string, Buffer>();
  for (const name of paths) files.set(name, await seal(`value of ${name}`, rekeyer, editor));
  const isReader = (host: number, secret: number): boolean =>
    (host - secret + scenario.secrets * scenario.hosts) % scenario.hosts < scenario.readers;
  return {
    rekeyer,
    editor,
    files,
    keys: Object.fromEntries(hosts.map((host) => [host, makeKey(host)])),
    uses: Object.fromEntries(hosts.map((host, h) => [host, paths.filter((_, s) => isReader(h, s))])),
  };
}

async function resealed(world: World): Promise<ReadonlyMap<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const added = makeKey('another editor');
  for (const name of world.files.keys()) {
    files.set(name, await seal(`value of ${name}`, world.rekeyer, world.editor, added));
  }
  return files;
}

/** What a release does with secrets: read both trees, plan, re-key, write the tree, verify it. */
async function releaseTree(
  repository: string,
  world: World,
  source: string,
  previous?: string,
): Promise<{ tree: string; outcome: RekeyOutcome }> {
  const sourceTree = await gitTree(repository, source);
  const previousTree = previous === undefined ? undefined : await gitTree(repository, previous);
  const request: SecretsRequest = {
    ...makeRequest(world.files, world.keys, world.uses, previousTree),
    source: sourceTree,
  };
  const plan = await planSecrets(request);
  const outcome = await applyRekey(plan, {
    identity: world.rekeyer.identity,
    source: sourceTree,
    ...(previousTree && { previous: previousTree }),
  });
  const kept = outcome.changes.filter((change) => change.bytes !== undefined);
  const oids = await writeBlobs(
    repository,
    kept.map((change) => change.bytes ?? Buffer.alloc(0)),
  );
  const changes = kept.map(({ path }, index) => ({ path, oid: oids[index] ?? '', mode: '100644' as const }));
  const tree = await writeTree(repository, source, changes);
  const hostKeys = Object.fromEntries(
    Object.entries(world.keys).map(([host, key]) => [host, [key.publicKey]]),
  );
  const problems = await verifyRelease({ tree: await gitTree(repository, tree), hostKeys });
  if (problems.length > 0) throw new Error(problems[0]?.message);
  return { tree, outcome };
}

async function gitTree(repository: string, tree: string): Promise<SourceTree> {
  const entries = await listTree(repository, tree);
  return {
    paths: entries.map((entry) => entry.path),
    read: async (paths) =>
      await readBlobs(
        repository,
        paths.map((name) => `${tree}:${name}`),
      ),
  };
}

async function storeTree(
  repository: string,
  base: string,
  files: ReadonlyMap<string, Buffer>,
): Promise<string> {
  const oids = await writeBlobs(repository, [...files.values()]);
  const changes = [...files.keys()].map((name, index) => ({
    path: name,
    oid: oids[index] ?? '',
    mode: '100644' as const,
  }));
  return await writeTree(repository, base, changes);
}

/** The same by `age -d | age -R`, a process pair for each file, as agenix' own tool does it. */
function timeAge(dir: string, world: World, scenario: Scenario): number {
  const openssh = path.join(dir, 'rekey.key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', openssh]);
  const publicKey = readFileSync(`${openssh}.pub`, 'utf8');
  const names = [...world.files.keys()];
  names.forEach((name, index) => {
    const readers = Object.entries(world.keys).filter(([host]) => world.uses[host]?.includes(name) === true);
    writeFileSync(
      path.join(dir, `${index}.readers`),
      readers.map(([, key]) => `${key.publicKey}\n`).join(''),
    );
    const input = `value of ${name}`;
    execFileSync('age', ['-r', publicKey.trim(), '-o', path.join(dir, `${index}.age`)], { input });
  });
  const script = `i=0; while [ $i -lt ${scenario.secrets} ]; do age -d -i rekey.key $i.age | age -R $i.readers -o $i.out; i=$((i+1)); done`;
  const start = performance.now();
  execFileSync('sh', ['-c', script], { cwd: dir });
  return round(performance.now() - start);
}

async function timed<T>(work: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const start = performance.now();
  const value = await work();
  return { value, ms: round(performance.now() - start) };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
