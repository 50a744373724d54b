import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Counter, formatMetrics, Histogram, snapshot } from './metrics.ts';

test('Counter adds up for each set of labels', () => {
  const counter = new Counter('a_total', 'what');
  counter.add({ kind: 'x' });
  counter.add({ kind: 'x' }, 2);
  counter.add({ kind: 'y' });
  const text = '# HELP a_total what\n# TYPE a_total counter\na_total{kind="x"} 3\na_total{kind="y"} 1\n';
  assert.equal(formatMetrics([counter]), text);
});

test('Histogram counts what is at most each bound, and the rest', () => {
  const histogram = new Histogram('t_seconds', 'how long', [0.1, 1]);
  for (const value of [0.1, 0.5, 3]) histogram.observe({}, value);
  assert.deepEqual(formatMetrics([histogram]).split('\n').slice(2, 7), [
    't_seconds_bucket{le="0.1"} 1',
    't_seconds_bucket{le="1"} 2',
    't_seconds_bucket{le="+Inf"} 3',
    't_seconds_sum 3.6',
    't_seconds_count 3',
  ]);
});

test('formatMetrics() escapes labels and help', () => {
  const metric = snapshot({ name: 'a', help: 'one\ntwo\\' }, [
    { labels: { name: 'q"\\\n' }, value: Infinity },
  ]);
  assert.equal(
    formatMetrics([metric]),
    '# HELP a one\\ntwo\\\\\n# TYPE a gauge\na{name="q\\"\\\\\\n"} +Inf\n',
  );
});
