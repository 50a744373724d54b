import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAdmin, isAgentOf, mayRead, mayView, mayWrite, type Caller } from './caller.ts';
import { formatScope, matchesPattern, parseScope } from './scope.ts';

const caller = (...scopes: string[]): Caller => ({ id: 'x', name: 'x', scopes: scopes.map(parseScope) });

test('parseScope() refuses what is not a scope', () => {
  for (const text of ['', 'read', 'read:', 'delete:main', 'read:a:b', 'admin:x', 'read:a b', 'read:/etc'])
    assert.throws(() => parseScope(text), /not a scope/, text);
});

test('formatScope() inverts parseScope()', () => {
  for (const text of ['admin', 'view', 'read:main', 'write:team-*', 'agent:web1.example.org'])
    assert.equal(formatScope(parseScope(text)), text);
});

test('matchesPattern() agrees with the regular expression that the pattern means', () => {
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 });
  const name = fc.string({ unit: fc.constantFrom('a', 'b'), maxLength: 10 });
  fc.assert(
    fc.property(pattern, name, (glob, text) => {
      const meaning = new RegExp(`^${glob.split('*').join('.*')}$`);
      assert.equal(matchesPattern(glob, text), meaning.test(text));
    }),
    { numRuns: 2000 },
  );
});

test('mayRead() is granted by read, write and admin, for matching caches only', () => {
  assert.ok(mayRead(caller('read:main'), 'main'));
  assert.ok(mayRead(caller('write:ma*'), 'main'));
  assert.ok(mayRead(caller('admin'), 'main'));
  assert.ok(!mayRead(caller('read:main'), 'other'));
  assert.ok(!mayRead(caller('agent:main'), 'main'));
  assert.ok(!mayRead(undefined, 'main'));
});

test('mayWrite() is not granted by read', () => {
  assert.ok(!mayWrite(caller('read:*'), 'main'));
  assert.ok(mayWrite(caller('read:*', 'write:main'), 'main'));
});

test('isAgentOf() is granted to the host alone, not to administrators', () => {
  assert.ok(isAgentOf(caller('agent:pi1'), 'pi1'));
  assert.ok(!isAgentOf(caller('agent:pi1'), 'pi2'));
  assert.ok(!isAgentOf(caller('admin'), 'pi1'));
  assert.ok(isAdmin(caller('admin')));
});

test('mayView() is granted by view and admin, and grants nothing else', () => {
  assert.ok(mayView(caller('view')) && mayView(caller('admin')));
  assert.ok(!mayView(undefined) && !mayView(caller('read:*', 'write:*', 'agent:*')));
  const viewer = caller('view');
  assert.ok(!isAdmin(viewer) && !mayRead(viewer, 'main') && !isAgentOf(viewer, 'web1'));
});
