import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { ReadingTurns, type ReadingTurn } from './reading-turns.ts';

const never = new Promise<never>(() => undefined);

test('a turn stays with a client that takes nothing until somebody needs it; who waits longest gives his', async () => {
  const turns = new ReadingTurns(2);
  const first = await turns.take();
  const second = await turns.take();
  const lost: string[] = [];
  const hold = async (name: string, turn: ReadingTurn): Promise<void> => {
    lost.push(`${name} ${await turn.during(never)}`);
    turn[Symbol.dispose]();
  };
  void hold('first', first);
  void hold('second', second);
  await setImmediate();
  assert.deepEqual(lost, []);
  using _third = await turns.take();
  assert.deepEqual(lost, ['first lost']);
  using _fourth = await turns.take();
  assert.deepEqual(lost, ['first lost', 'second lost']);
});

test('a turn is not taken from who is reading, nor from whose client takes at once', async () => {
  const turns = new ReadingTurns(1);
  const turn = await turns.take();
  let given = false;
  const take = async (): Promise<ReadingTurn> => {
    const next = await turns.take();
    given = true;
    return next;
  };
  const wanted = take();
  for (let n = 0; n < 5; n++) assert.equal(await turn.during(Promise.resolve(n)), n);
  await setImmediate();
  assert.equal(given, false);
  assert.equal(await turn.during(never), 'lost');
  turn[Symbol.dispose]();
  (await wanted)[Symbol.dispose]();
  using again = await turns.take();
  assert.equal(await again.during(Promise.resolve('taken')), 'taken');
});
