import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseGenerations, planRollback } from './generations.ts';

const LINES = [
  '1\t2026-01-01 10:00:00\t26.05.a\t6.12.1\t\t\tno\tno\t/nix/store/a',
  '2\t2026-01-02 10:00:00\t26.05.b\t6.12.1\tdeadbeef\tgaming,vm\tno\tyes\t/nix/store/b',
  '3\t2026-01-03 10:00:00\t26.05.b\t6.12.1\t\t\tyes\tno\t/nix/store/b',
  '',
].join('\n');

test('parseGenerations() reads every field, newest first', () => {
  const [newest, second] = parseGenerations(LINES);
  assert.equal(newest?.generation, 3);
  assert.deepEqual(second, {
    generation: 2,
    date: '2026-01-02 10:00:00',
    nixosVersion: '26.05.b',
    kernelVersion: '6.12.1',
    configurationRevision: 'deadbeef',
    specialisations: ['gaming', 'vm'],
    current: false,
    booted: true,
    toplevel: '/nix/store/b',
  });
  assert.deepEqual(parseGenerations(''), []);
});

test('planRollback() goes to the newest earlier generation that differs from the current one', () => {
  assert.equal(planRollback('web1', parseGenerations(LINES)).generation, 1);
});

test('planRollback() takes the number that was asked for, or says which there are', () => {
  const generations = parseGenerations(LINES);
  assert.equal(planRollback('web1', generations, 2).toplevel, '/nix/store/b');
  assert.throws(
    () => planRollback('web1', generations, 9),
    (error) => isCode(error, 'not_found') && /3, 2, 1/.test(error.next ?? ''),
  );
  assert.throws(() => planRollback('web1', generations.slice(-1)), /nothing|no generation/);
});
