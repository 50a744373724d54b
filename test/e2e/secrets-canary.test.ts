// A plaintext canary and the re-key identity are looked for wherever they could leak: arguments and environment of
// every process while it runs, temporary folders, outputs, git objects, errors. After success and after each failure.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { inspect } from 'node:util';
import { writeBlobs } from '../../src/effects/git-tree.ts';
import { applyRekey, type RekeyOutcome } from '../../src/secrets/apply-rekey.ts';
import { planSecrets } from '../../src/secrets/plan-secrets.ts';
import { makeKey, makeRequest, seal, type ThrowAwayKey } from '../../src/secrets/secret-fleet.arbitrary.ts';
import { SlipwayError } from '../../src/util/errors.ts';

const CANARY = `canary-${randomBytes(12).toString('hex')}`;
const rekeyer = makeKey('rekeyer');
const web1 = makeKey('web1');
/** The identity's private bytes, as they stand in its file. */
const KEY_TEXT = rekeyer.identity.toString().split('\n')[1] ?? '';
const LEAKS = [
  CANARY,
  Buffer.from(CANARY).toString('base64').slice(0, 24),
  Buffer.from(CANARY).toString('hex'),
  KEY_TEXT,
];

let dir = '';
let savedTmp: string | undefined;
before(() => {
  savedTmp = process.env['TMPDIR'];
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-canary-'));
  process.env['TMPDIR'] = path.join(dir, 'tmp');
  mkdirSync(process.env['TMPDIR']);
});
after(() => {
  if (savedTmp === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = savedTmp;
  rmSync(dir, { recursive: true, force: true });
});

interface Observation {
  readonly argv: string;
  readonly environment: string;
  readonly limits: string;
}

interface Run {
  readonly outcome: RekeyOutcome | undefined;
  readonly error: unknown;
  readonly seen: readonly Observation[];
}

/** Re-keys while every look at the child that /proc allows is taken, as often as possible. */
async function rekeyWatched(
  files: ReadonlyMap<string, Buffer>,
  identity: ThrowAwayKey = rekeyer,
  signal?: AbortSignal,
): Promise<Run> {
  const request = makeRequest(files, { web1 }, { web1: [...files.keys()] });
  const plan = await planSecrets(request);
  const seen: Observation[] = [];
  const state = { running: true };
  let watching: Promise<void> | undefined;
  const watch = async (pid: number): Promise<void> => {
    while (state.running) {
      const observation = observe(pid);
      if (observation !== undefined) seen.push(observation);
      await sleep(2);
    }
  };
  const onStart = (pid: number): void => void (watching = watch(pid));
  const options = { source: request.source, identity: identity.identity, onStart, ...(signal && { signal }) };
  let [outcome, error]: [RekeyOutcome | undefined, unknown] = [undefined, undefined];
  try {
    outcome = await applyRekey(plan, options);
  } catch (failure) {
    error = failure;
  }
  state.running = false;
  await watching;
  return { outcome, error, seen };
}

function observe(pid: number): Observation | undefined {
  const read = (name: string): string => readFileSync(`/proc/${pid}/${name}`, 'latin1');
  try {
    return { argv: read('cmdline'), environment: read('environ'), limits: read('limits') };
  } catch {
    return undefined; // it has just ended
  }
}

function assertNoLeak(what: string, text: string): void {
  for (const leak of LEAKS) assert.ok(!text.includes(leak), `${what} holds a secret`);
}

function assertClean(run: Run): void {
  assert.ok(run.seen.length > 0, 'the child was never seen');
  for (const { argv, environment } of run.seen) {
    assertNoLeak('argv', argv);
    assertNoLeak('environment', environment);
  }
  if (run.error !== undefined) {
    const { error } = run;
    assertNoLeak(
      'error',
      inspect(error, { depth: 10 }) + (error instanceof Error ? String(error.stack) : ''),
    );
    if (error instanceof SlipwayError)
      assertNoLeak('facts', JSON.stringify([error.facts, error.next, error.message]));
  }
  for (const change of run.outcome?.changes ?? [])
    assertNoLeak(change.path, change.bytes?.toString('latin1') ?? '');
  assertNoLeak('record', JSON.stringify(run.outcome?.record ?? {}));
  assertFolderClean(dir);
  assertFolderClean('/dev/shm');
}

function assertFolderClean(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const file = path.join(entry.parentPath, entry.name);
    if (entry.isFile() && statSync(file).size < 1e7) assertNoLeak(file, readFileSync(file, 'latin1'));
  }
}

async function sources(): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (let index = 0; index < 40; index++)
    files.set(`s${index}.age`, await seal(`${CANARY}-${index}`, rekeyer));
  return files;
}

test('re-keying leaves no canary anywhere, and its child has no environment and cannot dump core', async () => {
  const run = await rekeyWatched(await sources());
  assert.equal(run.outcome?.counts.rekeyed, 40, inspect(run.error));
  assertClean(run);
  const child = run.seen.filter((observation) => observation.argv.includes('rekey-child'));
  assert.ok(child.length > 0, 'the child was never seen at work');
  const node = child.filter((observation) => observation.argv.startsWith(process.execPath));
  assert.ok(node.length > 0, 'the shell did not become Node');
  for (const observation of node) {
    assert.match(observation.limits, /Max core file size\s+0\s/);
    const names = observation.environment.split('\0').map((entry) => entry.split('=')[0]);
    // the shell that sets the limit exports these by itself
    assert.deepEqual(
      names.filter((name) => !['', 'PWD', 'OLDPWD', 'SHLVL', '_'].includes(name ?? '')),
      [],
    );
    assert.ok(observation.argv.includes('--permission'));
  }
});

test('re-keyed files leave no canary in git objects', async () => {
  const run = await rekeyWatched(await sources());
  const repository = path.join(dir, 'objects.git');
  execFileSync('git', ['init', '-q', '--bare', repository]);
  await writeBlobs(repository, run.outcome?.changes.flatMap((change) => change.bytes ?? []) ?? []);
  const all = execFileSync('git', ['--git-dir', repository, 'cat-file', '--batch', '--batch-all-objects']);
  assert.ok(all.length > 1000);
  assertNoLeak('git objects', all.toString('latin1'));
});

const damage = (file: Buffer): Buffer =>
  Buffer.from(file.map((byte, at) => (at === file.length - 1 ? byte ^ 1 : byte)));

const failures: readonly (readonly [string, (files: Map<string, Buffer>) => Promise<void>, string])[] = [
  [
    'a file for somebody else',
    async (files) => void files.set('s3.age', await seal(CANARY, web1)),
    'source_undecryptable',
  ],
  [
    'a damaged file',
    async (files) => void files.set('s3.age', damage(files.get('s3.age') ?? Buffer.alloc(0))),
    'source_damaged',
  ],
  ['an empty file', async (files) => void files.set('s39.age', await seal('', rekeyer)), 'plaintext_empty'],
];

for (const [what, spoil, code] of failures) {
  test(`re-keying that fails by ${what} leaves no canary anywhere`, async () => {
    const files = await sources();
    await spoil(files);
    const run = await rekeyWatched(files);
    assert.match(inspect(run.error, { depth: 10 }), new RegExp(code));
    assertClean(run);
  });
}

test('re-keying with an unusable identity leaves no trace of it', async () => {
  const broken = Buffer.from(
    rekeyer.identity.toString().replace(KEY_TEXT, `${KEY_TEXT.slice(0, -9)}AAAAAAAAA`),
  );
  for (const identity of [Buffer.from(KEY_TEXT), Buffer.from(`AGE-SECRET-KEY-1${CANARY}`), broken]) {
    const run = await rekeyWatched(await sources(), { publicKey: '', identity });
    assert.ok(run.error instanceof SlipwayError);
    assertClean(run);
    assert.ok(!inspect(run.error, { depth: 10 }).includes(KEY_TEXT.slice(0, 30)));
  }
});

test('re-keying that is cancelled midway leaves no canary and no process', async () => {
  const controller = new AbortController();
  const run = rekeyWatched(await sources(), rekeyer, controller.signal);
  await sleep(120);
  controller.abort();
  const ended = await run;
  assert.ok(ended.error instanceof SlipwayError);
  assert.equal(ended.error.code, 'cancelled');
  assertClean(ended);
});
