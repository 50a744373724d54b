import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseDuration } from './parse-duration.ts';

test('parseDuration() reads seconds, minutes, hours and days', () => {
  assert.deepEqual(['90', '90s', '15m', '2h', '3d'].map(parseDuration), [90, 90, 900, 7200, 259_200]);
});

test('parseDuration() refuses what is no span of time', () => {
  for (const text of ['', 'h', '-1h', '1.5h', '2 h', '1w', '1e3']) {
    assert.throws(
      () => parseDuration(text),
      (error) => isCode(error, 'invalid'),
    );
  }
});
