import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { RunEventBody } from '../api/run-events.ts';
import { sleep } from '../util/deadline.ts';
import { SlipwayError } from '../util/errors.ts';
import { ReportedError, RunRecorder, unionLength } from './run-recorder.ts';

function record(): { recorder: RunRecorder; events: RunEventBody[] } {
  const events: RunEventBody[] = [];
  return { recorder: new RunRecorder((event) => events.push(event)), events };
}

test('unionLength() counts time that intervals share once', () => {
  assert.equal(unionLength([]), 0);
  assert.equal(
    unionLength([
      { from: 0, to: 4 },
      { from: 2, to: 6 },
      { from: 10, to: 11 },
    ]),
    7,
  );
  assert.equal(
    unionLength([
      { from: 0, to: 9 },
      { from: 1, to: 2 },
    ]),
    9,
  );
});

test('unionLength() is what counting covered points gives', () => {
  const interval = fc.tuple(fc.nat(50), fc.nat(20)).map(([from, length]) => ({ from, to: from + length }));
  fc.assert(
    fc.property(fc.array(interval), (intervals) => {
      const points = Array.from({ length: 80 }, (_, at) => at);
      const covered = points.filter((at) => intervals.some(({ from, to }) => from <= at && at < to));
      assert.equal(unionLength(intervals), covered.length);
    }),
  );
});

test('RunRecorder.stage() tells a failure once, under its stage', async () => {
  const { recorder, events } = record();
  const broken = new SlipwayError('build_failed', 'broken', { next: 'mend it' });
  const thrown = await recorder
    .stage('build', async () => await Promise.reject(broken))
    .catch((error: unknown) => error);
  assert.ok(thrown instanceof ReportedError);
  recorder.failure(thrown);
  assert.deepEqual(
    events.map((event) => event.kind),
    ['stage-started', 'problem', 'stage-finished'],
  );
});

test('RunRecorder.stage() that goes on without a host is partly done; a deploy that leaves one out has failed', async () => {
  const { recorder, events } = record();
  const where = { host: 'web1' };
  for (const stage of ['build', 'deploy', 'test'] as const) {
    await recorder.stage(stage, () => {
      if (stage !== 'test') recorder.problem(new SlipwayError('build_failed', 'broken'), { ...where, stage });
      return Promise.resolve();
    });
  }
  const outcomes = events.flatMap((event) => (event.kind === 'stage-finished' ? [event.outcome] : []));
  assert.deepEqual(outcomes, ['partly', 'failed', 'ok']);
});

test('RunRecorder.finish() splits the time into outside and own', async () => {
  const { recorder, events } = record();
  await Promise.all([
    recorder.outside('nix', async () => await sleep(30)),
    recorder.outside('nix', async () => await sleep(30)),
  ]);
  recorder.emit({ kind: 'span', name: 'health a', ms: 5, outside: true });
  recorder.finish();
  const spans = events.filter((event) => event.kind === 'span');
  assert.deepEqual(
    spans.map(({ name, outside }) => `${name} ${outside}`),
    ['nix true', 'health a true', 'slipway false'],
  );
  assert.ok((spans[0]?.ms ?? 0) >= 58, 'the span of nix is the sum');
  assert.ok((spans[2]?.ms ?? 100) < 58, 'own time counts side by side work once');
});
