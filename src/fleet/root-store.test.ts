import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { RunEvent } from '../api/run-events.ts';
import type { Database } from '../storage/database.ts';
import { openSqliteDatabase } from '../storage/sqlite-database.ts';
import { openFleet, type Fleet } from './fleet.ts';

const AT = '2026-11-21T08:00:00.000Z';

function system(name: string): string {
  return `/nix/store/${name.padEnd(32, '0')}-nixos-system`;
}

async function withFleet(work: (fleet: Fleet, database: Database) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-roots-'));
  try {
    await using database = await openSqliteDatabase(path.join(folder, 'slipway.db'));
    const repositories = [{ name: 'homelab', branch: 'main', releaseBranch: 'release' }];
    await work(await openFleet({ database, repositories, keepRuns: 10 }), database);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function roots(database: Database): Promise<string[]> {
  const rows = await database.read.selectFrom('fleet_root').selectAll().orderBy('toplevel').execute();
  return rows.map(({ kind, host, toplevel }) => `${kind} ${host} ${toplevel}`);
}

async function startRun(fleet: Fleet): Promise<string> {
  const commit = 'a'.repeat(40);
  await fleet.hearOfCommit({ repository: 'homelab', branch: 'main', commit, trigger: 'poll' });
  return (await fleet.claimRun('homelab'))?.id ?? '';
}

const built: RunEvent = { kind: 'host', at: AT, host: 'web1', phase: 'cached', toplevel: system('a') };

test('Fleet remembers the systems of a release once it is published', async () => {
  await withFleet(async (fleet, database) => {
    const run = await startRun(fleet);
    await fleet.recordEvents(run, [built]);
    assert.deepEqual(await roots(database), []);
    await fleet.recordEvents(run, [{ kind: 'stage-finished', at: AT, stage: 'publish', outcome: 'ok' }]);
    assert.deepEqual(await roots(database), [`release web1 ${system('a')}`]);
  });
});

test('Fleet remembers no system of a release that could not be published', async () => {
  await withFleet(async (fleet, database) => {
    const run = await startRun(fleet);
    await fleet.recordEvents(run, [
      built,
      { kind: 'stage-finished', at: AT, stage: 'publish', outcome: 'failed' },
    ]);
    assert.deepEqual(await roots(database), []);
  });
});

test('Fleet remembers what a host runs, boots and was booted into', async () => {
  await withFleet(async (fleet, database) => {
    await fleet.recordReport({
      version: 1,
      host: 'pi1',
      bootId: 'b',
      agentVersion: '1',
      at: AT,
      current: system('c'),
      booted: system('b'),
      profile: system('c'),
      bootDefault: '',
      generation: 3,
      operation: 'idle',
      sync: 'synced',
      health: 'healthy',
      note: '',
      quarantined: [],
    });
    assert.deepEqual(await roots(database), [`host pi1 ${system('b')}`, `host pi1 ${system('c')}`]);
  });
});
