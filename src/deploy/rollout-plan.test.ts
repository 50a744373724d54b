import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { amountOf, parseAmount, parseWaves, planRollout, selectMembers } from './rollout-plan.ts';

const member = (
  name: string,
  tags: string[] = [],
  wave = 1,
): { name: string; tags: string[]; wave: number } => ({
  name,
  tags,
  wave,
});
const ten = Array.from({ length: 10 }, (_, index) => member(`h${index}`, index % 2 === 0 ? ['even'] : []));

test('planRollout() keeps the waves of the configuration without other orders', () => {
  assert.deepEqual(planRollout([member('a', [], 2), member('b'), member('c', [], 2)], [], ''), [
    ['b'],
    ['a', 'c'],
  ]);
});

test('planRollout() begins with a canary by tag, name, count or share, then the rest', () => {
  assert.deepEqual(planRollout(ten, parseWaves('tag:even'), 's')[0], ['h0', 'h2', 'h4', 'h6', 'h8']);
  assert.deepEqual(planRollout(ten, parseWaves('h3'), 's')[0], ['h3']);
  assert.deepEqual(
    planRollout(ten, parseWaves('1,50%'), 's').map((wave) => wave.length),
    [1, 4, 5],
  );
  assert.deepEqual(
    planRollout(ten, parseWaves('h3,10%'), 's').map((wave) => wave.length),
    [1, 9],
  );
  assert.deepEqual(planRollout(ten, parseWaves('5%'), 's'), planRollout(ten, parseWaves('5%'), 's'));
  const first = new Set(
    ['a', 'b', 'c', 'd', 'e', 'f'].map((seed) => planRollout(ten, parseWaves('1'), seed)[0]?.[0]),
  );
  assert.ok(first.size > 1, 'another rollout has another canary');
});

test('planRollout() tries each host exactly once, whatever the steps', () => {
  const step = fc.constantFrom('tag:even', 'tag:none', 'h1', 'h9', '0%', '10%', '100%', '3', '99');
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), fc.string(), (steps, seed) => {
      const waves = planRollout(ten, parseWaves(steps.join(',')), seed);
      assert.deepEqual(
        waves.flat().toSorted(),
        ten.map(({ name }) => name),
      );
      assert.ok(waves.every((wave) => wave.length > 0));
    }),
  );
});

test('parseAmount() takes numbers and shares only; a share is at least one host', () => {
  assert.equal(amountOf(parseAmount('5%', '--canary'), 3), 1);
  assert.equal(amountOf(parseAmount('0%', '--max-failures'), 300), 0);
  for (const text of ['', '-1', '101%', '1.5', 'x']) assert.throws(() => parseAmount(text, '--canary'), text);
});

test('selectMembers() knows tags and names, and suggests the near one', () => {
  const members = [member('web1', ['web']), member('web2', ['web', 'eu']), member('db1')];
  assert.deepEqual(
    selectMembers(members, 'tag:eu,db1').map(({ name }) => name),
    ['web2', 'db1'],
  );
  assert.throws(() => selectMembers(members, 'wbe1'), /no host wbe1\. Did you mean web1\?/);
  assert.throws(() => selectMembers(members, 'tag:wev'), /no host with tag wev\. Did you mean tag:web\?/);
});
