import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseLogLine } from './log-event.ts';

test('parseLogLine() keeps ids beyond 2^53 exact', () => {
  const event = parseLogLine(
    '@nix {"action":"start","id":9007199254740993,"level":3,"parent":18014398509481985,"type":105,"text":"building","fields":["/nix/store/x.drv","",1,1]}',
  );
  assert.deepEqual(event, {
    kind: 'start',
    id: '9007199254740993',
    parent: '18014398509481985',
    level: 3,
    type: 'build',
    text: 'building',
    fields: ['/nix/store/x.drv', '', 1, 1],
  });
});

test('parseLogLine() reads a start without parent and fields, as Nix 2.8 writes it', () => {
  const event = parseLogLine(
    '@nix {"action":"start","id":4294967297,"level":5,"text":"querying","type":109}',
  );
  assert.deepEqual(event, {
    kind: 'start',
    id: '4294967297',
    level: 5,
    type: 'query-path-info',
    text: 'querying',
    fields: [],
  });
});

test('parseLogLine() leaves what looks like an id inside a log line alone', () => {
  const line = 'say {"id":99999999999999999999}';
  const event = parseLogLine(
    `@nix ${JSON.stringify({ action: 'result', id: 7, type: 101, fields: [line] })}`,
  );
  assert.deepEqual(event, { kind: 'result', id: '7', type: 'build-log-line', fields: [line] });
});

test('parseLogLine() keeps numbers that it has no name for', () => {
  assert.deepEqual(parseLogLine('@nix {"action":"result","id":1,"type":999}'), {
    kind: 'result',
    id: '1',
    type: 999,
    fields: [],
  });
});

test('parseLogLine() takes every other line for text and never throws', () => {
  for (const line of [
    '',
    'warning: dirty',
    '@nix',
    '@nix {',
    '@nix []',
    '@nix {"action":"dance"}',
    '@nix null',
  ]) {
    assert.deepEqual(parseLogLine(line), { kind: 'text', text: line });
  }
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseLogLine(`@nix ${text}`)));
});
