import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunEvent } from '../api/run-events.ts';
import { newStory, tell, type RunStory } from './run-story.ts';

const at = '2026-11-21T08:00:00.000Z';

function told(...events: RunEvent[]): RunStory {
  const story = newStory();
  events.forEach((event, index) => tell(story, { id: index + 100, run: '1', seq: index + 1, event }));
  return story;
}

test('tell() follows the stages, and leaves those that never came skipped', () => {
  const story = told(
    { kind: 'stage-started', at, stage: 'evaluate' },
    { kind: 'stage-finished', at, stage: 'evaluate', outcome: 'failed', ms: 840 },
    { kind: 'run-finished', at, outcome: 'failed', note: 'x', ms: 900 },
  );
  assert.deepEqual(story.stages.get('evaluate'), { stage: 'evaluate', state: 'failed', ms: 840 });
  assert.equal(story.stages.get('deploy')?.state, 'skipped');
  assert.equal(story.totalMs, 900);
});

test('tell() does not tell an event twice', () => {
  const story = newStory();
  const stored = { id: 9, run: '1', seq: 1, event: { kind: 'log', at, stage: 'build', line: 'x' } } as const;
  assert.deepEqual([tell(story, stored), tell(story, stored), story.log.length], [true, false, 1]);
});

test('tell() sums the time of equal spans', () => {
  const span = { kind: 'span', at, name: 'nix build', ms: 20, outside: true } as const;
  assert.equal(told(span, span).times.get('nix build')?.ms, 40);
});

test('tell() keeps a bounded end of the log', () => {
  const story = told(...Array.from({ length: 5_100 }, (_, index) => line(index)));
  assert.deepEqual([story.log.length, story.log[0]?.line, story.log.at(-1)?.line], [5_000, '100', '5099']);
});

test('tell() passes over kinds that it does not know', () => {
  const story = told({ kind: 'from-the-future', at } as unknown as RunEvent);
  assert.equal(story.seq, 1);
});

function line(index: number): RunEvent {
  return { kind: 'log', at, stage: 'build', line: String(index) };
}
