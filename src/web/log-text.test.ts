import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseLogLine, plainText } from './log-text.ts';

test('parseLogLine() turns colours into classes', () => {
  assert.deepEqual(parseLogLine('a \u001B[31;1mred\u001B[0m b'), [
    { text: 'a ', classes: [] },
    { text: 'red', classes: ['ansi-1', 'bold'] },
    { text: ' b', classes: [] },
  ]);
});

test('parseLogLine() takes the parameters of 256 colours for no codes of their own', () => {
  assert.deepEqual(parseLogLine('\u001B[38;5;31mx'), [{ text: 'x', classes: [] }]);
});

test('plainText() drops titles, links, cursor moves and unfinished sequences', () => {
  const lines = [
    '\u001B]0;owned\u0007ok',
    '\u001B]8;;https://evil.example\u001B\\ok',
    '\u001B[2J\u001B[1;1H\u001B[?25lok',
    'ok\u001B[31',
    'ok\u001B',
    'o\u0000\u0008k\u009B',
    '\u001BPpayload\u001B\\ok',
    '\u001B(Bok',
  ];
  for (const line of lines) assert.equal(plainText(line), 'ok', JSON.stringify(line));
});

test('plainText() keeps what a progress bar wrote last', () => {
  assert.equal(plainText('10 %\r50 %\r100 %'), '100 %');
  assert.equal(plainText('done\r'), 'done');
});

test('plainText() shows characters that reorder or hide text', () => {
  assert.equal(plainText('a\u202Eb\u200Bc'), 'a⟨U+202E⟩b⟨U+200B⟩c');
});

test('parseLogLine() leaves markup as the text that it is', () => {
  assert.equal(plainText('<img src=x onerror=alert(1)>'), '<img src=x onerror=alert(1)>');
});

test('parseLogLine() never lets a control character through', () => {
  const hostile = fc.string({
    unit: fc.constantFrom('\u001B', '[', ']', ';', '3', '1', 'm', '\u0007', '\r', 'x', '\\'),
  });
  fc.assert(
    fc.property(hostile, (line) => {
      assert.doesNotMatch(plainText(line), /[^\P{Cc}\t]/u);
    }),
    { numRuns: 2000 },
  );
});
