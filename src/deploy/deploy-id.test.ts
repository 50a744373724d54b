import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deployId } from '../api/deploy-state.ts';
import { createDeployId } from './deploy-id.ts';

test('createDeployId() makes ids that the contract accepts and that sort by time', () => {
  const ids = [0, 1, 1_700_000_000_000, 1_700_000_000_001, 4_000_000_000_000].map((now) =>
    createDeployId(now),
  );
  for (const id of ids) assert.ok(deployId.safeParse(id).success, id);
  assert.deepEqual(ids.toSorted(), ids);
});

test('createDeployId() never repeats', () => {
  const ids = new Set(Array.from({ length: 1000 }, () => createDeployId(1)));
  assert.equal(ids.size, 1000);
});
