import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import {
  emptyAgentState,
  findAgentState,
  withQuarantine,
  withoutQuarantine,
  writeAgentState,
} from './agent-state.ts';
import {
  findSuspension,
  readAgentRequests,
  removeAgentRequest,
  removeSuspension,
  watchAgentRequests,
  writeAgentRequest,
  writeSuspension,
} from './control-files.ts';
import { isCode } from '../util/errors.ts';

async function inStateDir(work: (stateDir: string) => Promise<void>): Promise<void> {
  const stateDir = await mkdtemp(path.join(tmpdir(), 'slipway-agent-'));
  try {
    await work(stateDir);
  } finally {
    await rm(stateDir, { recursive: true });
  }
}

const NOW = new Date('2026-11-21T12:00:00Z');
const TOP = `/nix/store/${'a'.repeat(32)}-x`;

test('writeAgentRequest() is read once and gone after removeAgentRequest()', async () => {
  await inStateDir(async (stateDir) => {
    const id = await writeAgentRequest(stateDir, { kind: 'retry', toplevel: TOP });
    assert.deepEqual(await readAgentRequests(stateDir), [{ kind: 'retry', toplevel: TOP, id }]);
    await removeAgentRequest(stateDir, id);
    assert.deepEqual(await readAgentRequests(stateDir), []);
  });
});

test('readAgentRequests() drops a damaged request and keeps the others', async () => {
  await inStateDir(async (stateDir) => {
    const id = await writeAgentRequest(stateDir, { kind: 'sync' });
    const damaged = path.join(stateDir, 'requests', '00000000-0000-0000-0000-000000000000.json');
    await writeFile(damaged, '{"kind":"rm -rf"}');
    assert.deepEqual(await readAgentRequests(stateDir), [{ kind: 'sync', id }]);
    assert.deepEqual(await readdir(path.join(stateDir, 'requests')), [`${id}.json`]);
  });
});

test('watchAgentRequests() wakes on a request', async () => {
  await inStateDir(async (stateDir) => {
    const wake = Promise.withResolvers<void>();
    using _watch = await watchAgentRequests(stateDir, wake.resolve);
    const keepAlive = setTimeout(() => wake.reject(new Error('not woken')), 5_000);
    await writeAgentRequest(stateDir, { kind: 'sync' });
    await wake.promise;
    clearTimeout(keepAlive);
  });
});

test('findSuspension() forgets a suspension at its end', async () => {
  await inStateDir(async (stateDir) => {
    const until = '2026-11-21T13:00:00Z';
    await writeSuspension(stateDir, { reason: 'debugging', by: 'root', since: NOW.toISOString(), until });
    assert.equal((await findSuspension(stateDir, NOW))?.reason, 'debugging');
    assert.equal(await findSuspension(stateDir, new Date(until)), undefined);
    await removeSuspension(stateDir);
    await removeSuspension(stateDir);
    assert.equal(await findSuspension(stateDir, NOW), undefined);
  });
});

test('writeAgentState() and findAgentState() round trip, for root alone, without leftovers', async () => {
  await inStateDir(async (stateDir) => {
    assert.equal(await findAgentState(stateDir), undefined);
    const state = { ...emptyAgentState(NOW), answered: Array.from({ length: 40 }, (_, i) => `r${i}`) };
    await writeAgentState(stateDir, state);
    const read = await findAgentState(stateDir);
    assert.deepEqual(read, { ...state, answered: state.answered.slice(-32) });
    assert.deepEqual(await readdir(stateDir), ['state.json']);
    const { mode } = await stat(path.join(stateDir, 'state.json'));
    assert.equal(mode & 0o777, 0o600);
  });
});

test('findAgentState() refuses a damaged file rather than starting over', async () => {
  await inStateDir(async (stateDir) => {
    for (const text of ['', '{', '{"version":2}']) {
      await writeFile(path.join(stateDir, 'state.json'), text);
      await assert.rejects(findAgentState(stateDir), (error) => isCode(error, 'invalid'));
    }
  });
});

test('withQuarantine() holds one entry a toplevel, withoutQuarantine() removes one or all', () => {
  const entry = {
    toplevel: TOP,
    serial: 1,
    commit: 'a'.repeat(40),
    reason: 'r',
    detail: 'd',
    at: NOW.toISOString(),
  };
  const other = { ...entry, toplevel: `/nix/store/${'b'.repeat(32)}-y` };
  const state = withQuarantine(withQuarantine(withQuarantine(emptyAgentState(NOW), entry), other), entry);
  assert.deepEqual(state.quarantine, [other, entry]);
  assert.deepEqual(withoutQuarantine(state, TOP).quarantine, [other]);
  assert.deepEqual(withoutQuarantine(state, undefined).quarantine, []);
});
