// `slipway up` as a person starts it: a real repository, real processes, real signals. The pipeline's own work is
// tested elsewhere; here a flake without hosts ends each run quickly, or a held lock makes it last.
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { EventPage, FleetStatus, RunStatus } from '../../src/api/fleet-status.ts';
import { execText } from '../../src/effects/exec.ts';
import { lockForRun } from '../../src/effects/run-lock.ts';
import { within, sleep } from '../../src/util/deadline.ts';

const SLIPWAY = path.join(import.meta.dirname, '../../bin/slipway');
const NIX_CONFIG = 'experimental-features = nix-command flakes\nsubstituters =';

interface Up {
  readonly url: string;
  readonly child: ChildProcess;
  readonly listening: Record<string, unknown>;
  readonly output: () => string;
  readonly status: () => Promise<FleetStatus>;
  readonly run: (id: string, wanted: (run: RunStatus) => boolean) => Promise<RunStatus>;
  /** Sends the signal; the exit code, and how long it took in ms. */
  readonly stop: (signal: NodeJS.Signals) => Promise<{ readonly code: number | null; readonly ms: number }>;
}

interface World extends AsyncDisposable {
  readonly data: string;
  readonly repository: string;
  readonly push: (text: string) => Promise<string>;
  readonly up: (...flags: string[]) => Promise<Up>;
  /** Starts, lets the first run end, and holds the next one, of the returned commit, for as long as it is locked. */
  readonly upAndHold: (...flags: string[]) => Promise<{ up: Up; commit: string; lock: Disposable }>;
}

async function openWorld(): Promise<World> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-up-'));
  const repository = path.join(folder, 'homelab.git');
  const work = path.join(folder, 'work');
  const data = path.join(folder, 'data');
  const started: ChildProcess[] = [];
  const git = async (...args: string[]): Promise<string> =>
    await execText(['git', '-C', work, '-c', 'user.name=Ada', '-c', 'user.email=ada@example.org', ...args]);
  await execText(['git', 'init', '--quiet', '--bare', '--initial-branch=main', repository]);
  await mkdir(work);
  await git('init', '--quiet', '--initial-branch=main');
  const world: Omit<World, keyof AsyncDisposable> = {
    data,
    repository,
    push: async (text) => {
      await writeFile(path.join(work, 'flake.nix'), `{ outputs = _: { }; } # ${text}\n`);
      await git('add', '.');
      await git('commit', '--quiet', '-m', text);
      await git('push', '--quiet', repository, 'main');
      return (await git('rev-parse', 'HEAD')).trim();
    },
    up: async (...flags) => {
      const args = [
        'up',
        '--json',
        '--data',
        data,
        '--repository',
        repository,
        '--listen',
        '127.0.0.1:0',
        ...flags,
      ];
      const child = spawn(SLIPWAY, args, { env: { ...process.env, NIX_CONFIG } });
      started.push(child);
      return await readUp(child);
    },
    upAndHold: async (...flags) => {
      await world.push('one');
      const up = await world.up('--poll', '1', ...flags);
      await up.run('1', (run) => run.endedAt !== undefined);
      const lock = await lockState(data);
      const commit = await world.push('two');
      await up.run('2', (run) => run.state === 'running');
      return { up, commit, lock };
    },
  };
  return Object.assign(world, {
    [Symbol.asyncDispose]: async () => {
      for (const child of started)
        if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
      await rm(folder, { recursive: true, maxRetries: 5 });
    },
  });
}

async function readUp(child: ChildProcess): Promise<Up> {
  let output = '';
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  lines.on('line', (line) => (output += `${line}\n`));
  const [first] = (await within(20_000, 'listening', async (signal) => {
    return await Promise.race([once(lines, 'line', { signal }), once(child, 'exit', { signal })]);
  })) as [unknown];
  assert.equal(typeof first, 'string', output);
  const listening = JSON.parse(String(first)) as Record<string, unknown>;
  const url = String((listening['urls'] as string[])[0]);
  const status = async (): Promise<FleetStatus> =>
    (await (await fetch(`${url}/api/v1/status`)).json()) as FleetStatus;
  return {
    url,
    child,
    listening,
    output: () => output,
    status,
    run: async (id, wanted) =>
      await within(20_000, `run ${id}`, async (signal) => {
        for (;;) {
          const run = (await status()).runs.find((one) => one.id === id);
          if (run && wanted(run)) return run;
          await sleep(50, signal);
        }
      }).catch(async (error: unknown) => {
        throw new Error(`${String(error)}\n${JSON.stringify(await status(), undefined, 1)}\n${output}`, {
          cause: error,
        });
      }),
    stop: async (signal) => {
      const began = performance.now();
      child.kill(signal);
      const [code] = (await once(child, 'exit')) as [number | null];
      return { code, ms: performance.now() - began };
    },
  };
}

/** Processes that name this data directory in their arguments. */
async function processesOf(data: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const all = await Promise.all(
    pids.map(async (pid) => await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  return all.filter((line) => line.includes(data));
}

test('slipway up makes its keys for nobody else, and runs what the branch holds', async () => {
  await using world = await openWorld();
  const commit = await world.push('one');
  const up = await world.up();
  const run = await up.run('1', (one) => one.endedAt !== undefined);
  assert.deepEqual([run.commit, run.trigger, run.state], [commit, 'poll', 'failed']);
  assert.match(run.problem?.message ?? '', /no nixosConfigurations/);
  assert.match(run.problem?.next ?? '', /flake\.nix/);
  assert.equal((await stat(world.data)).mode & 0o777, 0o700);
  for (const name of await readdir(path.join(world.data, 'keys'))) {
    assert.equal((await stat(path.join(world.data, 'keys', name))).mode & 0o777, 0o600, name);
  }
  const page = (await (await fetch(`${up.url}/api/v1/runs/1/events`)).json()) as EventPage;
  assert.equal(page.events.at(-1)?.event.kind, 'run-finished');
  assert.equal((await up.stop('SIGTERM')).code, 0);
});

test('slipway up never prints a secret nor gives one as an argument', async () => {
  await using world = await openWorld();
  const { up, lock } = await world.upAndHold();
  const seen = [up.output(), ...(await processesOf(world.data)), JSON.stringify(await up.status())].join(
    '\n',
  );
  assert.match(seen, /ci\0run\0/);
  for (const name of await readdir(path.join(world.data, 'keys'))) {
    const lines = (await readFile(path.join(world.data, 'keys', name), 'utf8')).split('\n');
    for (const line of lines) assert.ok(line === '' || line.startsWith('#') || !seen.includes(line), name);
  }
  await up.stop('SIGINT');
  lock[Symbol.dispose]();
});

test('slipway up hears of a push by webhook at once, and only of a signed one', async () => {
  await using world = await openWorld();
  await world.push('one');
  const up = await world.up('--poll', '0');
  await up.run('1', (run) => run.endedAt !== undefined);
  const commit = await world.push('two');
  const secret = (await readFile(String(up.listening['webhookSecretFile']), 'utf8')).trim();
  const body = JSON.stringify({ ref: 'refs/heads/main', after: commit });
  const deliver = async (key: string): Promise<Response> =>
    await fetch(`${up.url}/hooks/forgejo/homelab`, {
      method: 'POST',
      body,
      headers: {
        'x-forgejo-event': 'push',
        'x-forgejo-delivery': 'd-1',
        'x-forgejo-signature': createHmac('sha256', key).update(body).digest('hex'),
      },
    });
  assert.equal((await deliver('wrong')).status, 403);
  assert.equal((await deliver(secret)).status, 202);
  const run = await up.run('2', (one) => one.endedAt !== undefined);
  assert.deepEqual([run.commit, run.trigger], [commit, 'webhook']);
  await up.stop('SIGTERM');
});

test('slipway up sees a push by itself, and runs only the newest of several', async () => {
  await using world = await openWorld();
  const { up, lock } = await world.upAndHold();
  await world.push('three');
  await up.run('3', (run) => /Run 2 .* is under way/.test(run.waiting ?? ''));
  const newest = await world.push('four');
  await up.run('3', (run) => run.commit === newest);
  lock[Symbol.dispose]();
  const run = await up.run('3', (one) => one.endedAt !== undefined);
  assert.deepEqual([run.commit, (await up.status()).runs.length], [newest, 3]);
  await up.stop('SIGTERM');
});

test('slipway up stops within 5 s in the middle of a run, leaves no process, and says so at the next start', async () => {
  await using world = await openWorld();
  const { up: first, commit, lock } = await world.upAndHold();
  const live = await fetch(`${first.url}/events`);
  const { code, ms } = await first.stop('SIGTERM');
  await live.body?.cancel().catch(() => undefined);
  assert.equal(code, 0, first.output());
  assert.ok(ms < 5_000, `${ms} ms`);
  assert.deepEqual(await processesOf(world.data), []);
  lock[Symbol.dispose]();
  const keys = await readKeys(world.data);
  const second = await world.up();
  const interrupted = await second.run('2', (run) => run.state === 'failed');
  assert.match(interrupted.note, /server was stopped/);
  assert.equal((await second.run('3', (run) => run.endedAt !== undefined)).commit, commit);
  assert.deepEqual(await readKeys(world.data), keys);
  await second.stop('SIGTERM');
});

test('slipway up names the run that a kill cut off, and starts its commit again', async () => {
  await using world = await openWorld();
  const { up: first, commit, lock } = await world.upAndHold();
  await first.stop('SIGKILL');
  lock[Symbol.dispose]();
  const second = await world.up();
  assert.match((await second.run('2', (run) => run.state === 'failed')).note, /server stopped/);
  const again = await second.run('3', (run) => run.endedAt !== undefined);
  assert.deepEqual([again.commit, again.reason], [commit, 'run 2 was interrupted']);
  await second.stop('SIGTERM');
});

test('slipway up shows a repository that it cannot read, and goes on', async () => {
  await using world = await openWorld();
  const up = await world.up('--repository', path.join(world.data, 'missing.git'));
  await within(10_000, 'the problem', async (signal) => {
    while ((await up.status()).repositories[0]?.problem === undefined) await sleep(50, signal);
  });
  const [repository] = (await up.status()).repositories;
  assert.equal(repository?.problem?.code, 'repository_unusable');
  assert.ok((await fetch(`${up.url}/healthz`)).ok);
  assert.equal((await up.stop('SIGINT')).code, 0);
});

test('slipway up refuses a data directory that another server uses, and settings that do not fit', async () => {
  await using world = await openWorld();
  await world.push('one');
  const up = await world.up();
  const used = await fails('--data', world.data, '--listen', '127.0.0.1:0');
  assert.equal(used.code, 'unavailable');
  const config = path.join(world.data, 'server.toml');
  await writeFile(
    config,
    'data = "/tmp/x"\n[[repositories]]\nname = "homelab"\nurl = "/x"\nwebhookSecret = "hunter2"\n',
  );
  const literal = await fails('--config', config);
  assert.match(literal.message, /repositories\[0\]\.webhookSecret/);
  assert.doesNotMatch(literal.message, /hunter2/);
  await writeFile(config, 'data = "/tmp/x"\nlisten = [\n');
  assert.match((await fails('--config', config)).message, /server\.toml:\d+:\d+/);
  assert.match((await fails('--data', `${world.data}2`, '--listen', 'nowhere')).message, /not an address/);
  await up.stop('SIGTERM');
});

/** Takes the lock that a run of the pipeline takes first. */
async function lockState(data: string): Promise<Disposable> {
  const state = path.join(data, 'state/homelab');
  const [folder = ''] = await readdir(state);
  const options = { timeoutMs: 5_000, signal: AbortSignal.timeout(10_000), onWait: () => undefined };
  return await lockForRun(path.join(state, folder), options);
}

async function readKeys(data: string): Promise<string[]> {
  const names = (await readdir(path.join(data, 'keys'))).toSorted();
  return await Promise.all(names.map(async (name) => await readFile(path.join(data, 'keys', name), 'utf8')));
}

/** The error that the command ends with. */
async function fails(...args: string[]): Promise<{ readonly code: string; readonly message: string }> {
  const child = spawn(SLIPWAY, ['up', '--json', ...args]);
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [exit] = (await once(child, 'close')) as [number];
  assert.notEqual(exit, 0);
  return (JSON.parse(text) as { error: { code: string; message: string } }).error;
}
