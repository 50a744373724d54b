import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunEventBody } from '../api/run-events.ts';
import {
  type Board,
  countPhases,
  describeLeft,
  emptyBoard,
  renderBoard,
  updateBoard,
} from './deploy-board.ts';
import { makeStyle } from './style.ts';

const LOOK = { columns: 60, rows: 24, now: 4_000, style: makeStyle(false) };

function host(name: string, phase: string, note = ''): RunEventBody {
  return { kind: 'host', host: name, phase, note } as RunEventBody;
}

function log(name: string, line: string): RunEventBody {
  return { kind: 'log', stage: 'deploy', host: name, line };
}

function board(hosts: readonly string[], ...events: readonly RunEventBody[]): Board {
  return events.reduce((so, event, index) => updateBoard(so, event, index * 1_000), emptyBoard(hosts));
}

test('renderBoard() shows a line a host: phase, progress, elapsed, and what was said last', () => {
  const seen = board(
    ['web1', 'pi1', 'db'],
    host('web1', 'preparing'),
    host('web1', 'committed', 'generation 4'),
    host('pi1', 'activating'),
    log('pi1', 'restarting nginx.service \u001B[2J'),
  );
  assert.deepEqual(renderBoard(seen, LOOK), [
    'web1  committed    #######     1.0 s  generation 4',
    'pi1   activating   ###....     2.0 s  restarting nginx.serv',
    'db    waiting      .......            ',
  ]);
});

test('renderBoard() counts the paths of a copy', () => {
  const seen = board(
    ['web1'],
    host('web1', 'copying'),
    log('web1', 'copying 3 paths...'),
    log('web1', "copying path '/nix/store/a' to 'ssh://web1'..."),
  );
  assert.match(renderBoard(seen, LOOK)[0] ?? '', /copying +##\.+ +4\.0 s +1 of 3 paths$/);
});

test('renderBoard() never has more lines or columns than the screen', () => {
  const names = Array.from({ length: 300 }, (_, index) => `host${index}`);
  const seen = board(names, host('host299', 'trial', 'x'.repeat(200)), host('host5', 'committed'));
  const lines = renderBoard(seen, { ...LOOK, rows: 10 });
  assert.equal(lines.length, 9);
  assert.ok(lines.every((line) => line.length < 60));
  assert.ok(
    lines.some((line) => line.startsWith('host299 ')),
    'a host at work is among them',
  );
  assert.equal(lines.at(-1), '298 waiting, 1 committed, 1 trial');
  assert.equal(countPhases(seen), '298 waiting, 1 committed, 1 trial');
});

test('describeLeft() says what goes on where, and how to follow it', () => {
  const seen = board(
    ['a', 'b', 'c', 'd'],
    host('b', 'copying'),
    host('c', 'activating'),
    host('d', 'rolled-back', 'cancelled'),
  );
  assert.deepEqual(describeLeft(seen), [
    'a: was not begun',
    'b: nothing was changed; what was copied is kept',
    'c: activating; it decides by itself and goes back unless it was confirmed. Follow it: slipway deploy resume c',
    'd: rolled-back (cancelled)',
  ]);
});
