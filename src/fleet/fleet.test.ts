// The control plane's state over a real database file.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { AgentReport } from '../api/agent-report.ts';
import type { LiveMessage } from '../api/fleet-status.ts';
import type { HostPhase, RunEvent } from '../api/run-events.ts';
import { openSqliteDatabase } from '../storage/sqlite-database.ts';
import { isCode } from '../util/errors.ts';
import { openFleet, type CommitNews, type Fleet, type Work } from './fleet.ts';

const A = 'a'.repeat(40);
const B = 'b'.repeat(40);
const AT = '2026-11-21T08:00:00.000Z';
const TOPLEVEL = '/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web1-1';

interface World extends AsyncDisposable {
  readonly fleet: Fleet;
  /** Opens the same database again, as after a crash. */
  readonly reopen: () => Promise<Fleet>;
  clock: number;
}

async function openWorld(keepRuns = 50): Promise<World> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-fleet-'));
  const file = path.join(folder, 'slipway.db');
  const opened: AsyncDisposable[] = [];
  const world = { clock: Date.parse(AT) };
  const open = async (): Promise<Fleet> => {
    const database = await openSqliteDatabase(file);
    opened.push(database);
    const repositories = [
      { name: 'homelab', branch: 'main', releaseBranch: 'release', credentials: 'file:/x' },
    ];
    return await openFleet({ database, repositories, keepRuns, now: () => world.clock++ });
  };
  return Object.assign(world, {
    fleet: await open(),
    reopen: open,
    [Symbol.asyncDispose]: async () => {
      for (const database of opened) await database[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  });
}

function news(commit: string, more: Partial<CommitNews> = {}): CommitNews {
  return { repository: 'homelab', branch: 'main', commit, trigger: 'poll', ...more };
}

const DONE = { state: 'done', note: 'Everything is live.' } as const;

test('Fleet runs one commit at a time and lets the waiting run take the newest', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  assert.deepEqual(await fleet.hearOfCommit(news(A)), { decision: 'start', reason: 'main moved', run: '1' });
  assert.equal((await fleet.claimRun('homelab'))?.commit, A);
  assert.equal((await fleet.hearOfCommit(news(B))).run, '2');
  assert.equal(await fleet.claimRun('homelab'), undefined);
  const coalesced = await fleet.hearOfCommit(news('c'.repeat(40)));
  assert.deepEqual([coalesced.decision, coalesced.run], ['coalesce', '2']);
  await fleet.endRun('1', DONE);
  assert.equal((await fleet.claimRun('homelab'))?.commit, 'c'.repeat(40));
});

test('Fleet says why a run waits', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  assert.match((await fleet.getRun('1')).waiting ?? '', /No runner is attached/);
  using _runner = fleet.onWork(() => undefined, { runner: true });
  await fleet.claimRun('homelab');
  await fleet.hearOfCommit(news(B));
  assert.match((await fleet.getRun('2')).waiting ?? '', /Run 1 of this repository is under way/);
});

test('Fleet marks a run that a crash cut off, and starts its commit once more', async () => {
  await using world = await openWorld();
  await world.fleet.hearOfCommit(news(A));
  await world.fleet.claimRun('homelab');
  await world.fleet.recordEvents('1', [host('trial')]);
  const fleet = await world.reopen();
  const run = await fleet.getRun('1');
  assert.deepEqual([run.state, run.problem?.code], ['failed', 'cancelled']);
  assert.match(run.note, /server stopped/);
  const [web1] = (await fleet.readStatus()).hosts;
  assert.deepEqual([web1?.operation, web1?.health], ['idle', 'unknown']);
  assert.match((await fleet.hearOfCommit(news(A))).reason, /run 1 was interrupted/);
  await fleet.claimRun('homelab');
  const again = await world.reopen();
  assert.match((await again.hearOfCommit(news(A))).reason, /start it by hand/);
});

test('Fleet keeps a waiting run over a restart', async () => {
  await using world = await openWorld();
  await world.fleet.hearOfCommit(news(A));
  const fleet = await world.reopen();
  assert.equal((await fleet.claimRun('homelab'))?.commit, A);
});

test('Fleet ignores a webhook delivery that it has seen', async () => {
  await using world = await openWorld();
  const told = news(A, { trigger: 'webhook', delivery: 'd-1' });
  assert.equal((await world.fleet.hearOfCommit(told)).decision, 'start');
  const again = await world.fleet.hearOfCommit({ ...told, commit: B });
  assert.deepEqual([again.decision, again.run], ['ignore', undefined]);
  assert.match(again.reason, /seen before/);
});

test('Fleet asks for a look at the branch when a webhook names an old commit', async () => {
  await using world = await openWorld();
  const work: Work[] = [];
  using _worker = world.fleet.onWork((one) => work.push(one), { runner: true });
  await world.fleet.hearOfCommit(news(A));
  await world.fleet.claimRun('homelab');
  await world.fleet.endRun('1', DONE);
  const answer = await world.fleet.hearOfCommit(news(A, { trigger: 'webhook', delivery: 'd-2' }));
  assert.equal(answer.decision, 'look');
  assert.deepEqual(work.at(-1), { kind: 'look', repository: 'homelab' });
});

test('Fleet numbers events within the run and over all runs, and pages them', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  await fleet.recordEvents('1', [log('one'), log('two')]);
  await fleet.recordEvents('1', [log('three')]);
  const first = await fleet.listRunEvents('1', 0, 2);
  assert.deepEqual([first.events.map((one) => one.seq), first.more], [[1, 2], true]);
  const rest = await fleet.listRunEvents('1', 2, 2);
  assert.deepEqual([rest.events.map((one) => one.seq), rest.more], [[3], false]);
  assert.equal((await fleet.listEventsAfter(first.events[0]?.id ?? 0, 10)).length, 2);
  assert.equal((await fleet.readStatus()).lastEvent, rest.events[0]?.id);
});

test('Fleet cuts a log that does not end, and keeps everything else', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  const many = Array.from({ length: 5_001 }, () => log('x'));
  for (let i = 0; i < 4; i++) await fleet.recordEvents('1', many);
  await fleet.recordEvents('1', [log('unseen'), host('committed')]);
  const { events } = await fleet.listRunEvents('1', 19_999, 10);
  assert.deepEqual(
    events.map((one) => one.event.kind),
    ['log', 'log', 'host'],
  );
  assert.match(JSON.stringify(events[1]), /no more of it is kept/);
});

test('Fleet keeps the newest runs, and their events go with the others', async () => {
  await using world = await openWorld(2);
  const { fleet } = world;
  for (const commit of [A, B, 'c'.repeat(40)]) {
    await fleet.hearOfCommit(news(commit));
    const run = await fleet.claimRun('homelab');
    await fleet.recordEvents(run?.id ?? '', [log('hello')]);
    await fleet.endRun(run?.id ?? '', DONE);
  }
  assert.deepEqual(
    (await fleet.readStatus()).runs.map((run) => run.id),
    ['3', '2'],
  );
  await assert.rejects(fleet.getRun('1'), (error: unknown) => isCode(error, 'not_found'));
  assert.equal((await fleet.listEventsAfter(0, 10)).length, 2);
});

test('Fleet moves a host along the events of a run', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  await fleet.recordEvents('1', [host('copying'), host('trial')]);
  const [during] = (await fleet.readStatus()).hosts;
  assert.deepEqual([during?.mode, during?.sync, during?.operation], ['push', 'out-of-sync', 'trial']);
  await fleet.recordEvents('1', [host('committed')]);
  const [after] = (await fleet.readStatus()).hosts;
  assert.deepEqual([after?.sync, after?.health, after?.current], ['synced', 'healthy', TOPLEVEL]);
});

test('Fleet believes that a host is unchanged only when the host was asked', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  await fleet.recordEvents('1', [host('preparing'), host('failed'), host('unchanged')]);
  const [left] = (await fleet.readStatus()).hosts;
  assert.deepEqual([left?.sync, left?.current], ['out-of-sync', undefined]);
  await fleet.recordEvents('1', [host('preparing'), host('unchanged')]);
  const end = { kind: 'run-finished', at: AT, outcome: 'nothing-to-do', note: '', ms: 1 } as const;
  await fleet.recordEvents('1', [{ ...end, release: B, serial: 7 }]);
  const [asked] = (await fleet.readStatus()).hosts;
  assert.deepEqual([asked?.sync, asked?.current, asked?.serial], ['synced', TOPLEVEL, 7]);
});

test("Fleet reads a host's health from what its deploy failed with", async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  const problem = { kind: 'problem', at: AT, host: 'web1', message: 'It failed.\nMore.' } as const;
  const after = async (code: string, stage: 'deploy' | 'build' = 'deploy'): Promise<unknown[]> => {
    await fleet.recordEvents('1', [host('preparing'), host('committed'), { ...problem, code, stage }]);
    const [web1] = (await fleet.readStatus()).hosts;
    return [web1?.sync, web1?.health, web1?.operation];
  };
  assert.deepEqual(await after('build_failed', 'build'), ['synced', 'healthy', 'idle']);
  assert.deepEqual(await after('deploy_rolled_back'), ['out-of-sync', 'healthy', 'idle']);
  assert.deepEqual(await after('deploy_rolled_back_unhealthy'), ['out-of-sync', 'degraded', 'idle']);
  assert.deepEqual(await after('deploy_degraded'), ['synced', 'degraded', 'idle']);
  assert.deepEqual(await after('host_unreachable'), ['unknown', 'unknown', 'idle']);
  assert.equal((await fleet.readStatus()).hosts[0]?.note, 'It failed.');
});

test("Fleet takes an agent's word over a run's", async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  const answer = await fleet.recordReport(report({ sync: 'synced', health: 'degraded' }));
  assert.equal(answer.version, 1);
  await fleet.recordEvents('1', [{ ...host('committed'), host: 'pi1' }]);
  const pi1 = (await fleet.readStatus()).hosts.find((one) => one.name === 'pi1');
  assert.deepEqual([pi1?.mode, pi1?.sync, pi1?.health], ['pull', 'synced', 'degraded']);
  assert.ok(Date.parse(pi1?.silentAfter ?? '') > Date.parse(pi1?.lastReport ?? ''));
});

test('Fleet tells watchers of runs, hosts, events and repositories', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  const heard: LiveMessage[] = [];
  using _watch = fleet.live.subscribe((message) => heard.push(message));
  await fleet.hearOfCommit(news(A));
  await fleet.recordEvents('1', [{ kind: 'stage-started', at: AT, stage: 'evaluate' }, host('evaluated')]);
  fleet.recordLook('homelab', { head: A });
  const names = heard.map((message) => message.name);
  assert.deepEqual(names, ['run', 'event', 'event', 'host', 'run', 'repository']);
});

test('Fleet shows nothing of a repository but its name and branches', async () => {
  await using world = await openWorld();
  const { repositories } = await world.fleet.readStatus();
  assert.deepEqual(repositories, [{ name: 'homelab', branch: 'main', releaseBranch: 'release' }]);
});

test('Fleet shows the commit that a run really took', async () => {
  await using world = await openWorld();
  const { fleet } = world;
  await fleet.hearOfCommit(news(A));
  await fleet.claimRun('homelab');
  await fleet.recordEvents('1', [
    { kind: 'run-started', at: AT, run: 'x', source: B, branch: 'main', reason: 'push' },
  ]);
  assert.equal((await fleet.getRun('1')).commit, B);
});

test('Fleet refuses what it does not know', async () => {
  await using world = await openWorld();
  await assert.rejects(world.fleet.hearOfCommit(news(A, { repository: '../etc' })), notFound);
  for (const id of ['9', 'x', '-1', '1; drop table fleet_run', '9'.repeat(40)]) {
    await assert.rejects(world.fleet.getRun(id), notFound);
  }
});

function log(line: string): RunEvent {
  return { kind: 'log', at: AT, stage: 'build', line };
}

function host(phase: HostPhase): RunEvent & { kind: 'host' } {
  return { kind: 'host', at: AT, host: 'web1', phase, toplevel: TOPLEVEL };
}

function report(more: Partial<AgentReport>): AgentReport {
  return {
    version: 1,
    host: 'pi1',
    bootId: 'b',
    agentVersion: '0.1.0',
    at: AT,
    current: TOPLEVEL,
    booted: TOPLEVEL,
    profile: TOPLEVEL,
    bootDefault: TOPLEVEL,
    generation: 4,
    operation: 'idle',
    sync: 'synced',
    health: 'healthy',
    note: '',
    quarantined: [],
    ...more,
  };
}

function notFound(error: unknown): boolean {
  return isCode(error, 'not_found');
}
