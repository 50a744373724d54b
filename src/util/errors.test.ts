import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asSlipwayError, ERROR_CODES, exitCode, httpStatus, SlipwayError } from './errors.ts';

test('every code has an HTTP status of failure and an exit code that a shell can see', () => {
  for (const [code, facts] of Object.entries(ERROR_CODES)) {
    assert.ok(facts.http >= 400 && facts.http < 600, code);
    assert.ok(facts.exit > 0 && facts.exit < 256, code);
  }
});

test('asSlipwayError() keeps our errors and wraps strangers as internal with their cause', () => {
  const ours = new SlipwayError('not_found', 'No such host.', { next: 'slipway status' });
  assert.equal(asSlipwayError(ours), ours);
  const stranger = new TypeError('x is undefined');
  assert.equal(asSlipwayError(stranger).code, 'internal');
  assert.equal(asSlipwayError(stranger).cause, stranger);
  assert.equal(asSlipwayError('text').message, 'text');
});

test('exitCode() and httpStatus() read the table', () => {
  const error = new SlipwayError('deploy_rolled_back', 'web1 went back.');
  assert.deepEqual([exitCode(error), httpStatus(error)], [10, 409]);
});
