import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findNearest } from './nearest.ts';

test('findNearest() finds the word that was meant, and none where nothing is near', () => {
  const hosts = ['web1', 'pi1', 'forge1'];
  assert.equal(findNearest('web2', hosts), 'web1');
  assert.equal(findNearest('frge1', hosts), 'forge1');
  assert.equal(findNearest('WEB1', hosts), 'web1');
  assert.equal(findNearest('database', hosts), undefined);
  assert.equal(findNearest('', []), undefined);
});
