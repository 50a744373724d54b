import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BuildLog, derivationName } from './build-log.ts';

const DRV = '/nix/store/0sbqxk8r0lk9ig5iiwkpn6hjgg8shv0s-hello-1.0.drv';
const TOP = '/nix/store/1sbqxk8r0lk9ig5iiwkpn6hjgg8shv0s-top.drv';
const ID = 18446744073709;

function open(): { log: BuildLog; lines: string[] } {
  const lines: string[] = [];
  const log = new BuildLog({
    onStart: (drvPath) => lines.push(`start ${derivationName(drvPath)}`),
    onLine: (line, drvPath) =>
      lines.push(drvPath === undefined ? line : `${derivationName(drvPath)}> ${line}`),
  });
  return { log, lines };
}

function start(drvPath: string, id = ID): string {
  return `@nix {"action":"start","id":${id},"level":3,"text":"","type":105,"fields":["${drvPath}","",1,1]}`;
}

function line(text: string, id = ID): string {
  return `@nix ${JSON.stringify({ action: 'result', id, type: 101, fields: [text] })}`;
}

function message(text: string, level = 0): string {
  return `@nix ${JSON.stringify({ action: 'msg', level, msg: text })}`;
}

test('BuildLog tells each line with its derivation, without control characters', () => {
  const { log, lines } = open();
  for (const one of [start(DRV), line('\u001B[31mred\u001B[0m\u0007'), line('plain')]) log.take(one);
  assert.deepEqual(lines, ['start hello-1.0', 'hello-1.0> red', 'hello-1.0> plain']);
  assert.deepEqual(log.tail(DRV), ['red', 'plain']);
});

test('BuildLog finds the derivation that failed in the words of Nix 2.8 and of newer ones', () => {
  const reasons = [
    [
      `\u001B[31;1merror:\u001B[0m builder for '${DRV}' failed with exit code 3;\n       last 1 log lines:`,
      /exit code 3/,
    ],
    [
      `error: Cannot build '${DRV}'.\n       Reason: builder failed with exit code 3.`,
      /builder failed with exit code 3/,
    ],
    [`error: hash mismatch in fixed-output derivation '${DRV}':\n specified: x`, /hash mismatch/],
  ] as const;
  for (const [text, reason] of reasons) {
    const { log } = open();
    log.take(message(text));
    assert.deepEqual([...log.failures.keys()], [DRV]);
    assert.match(log.failures.get(DRV) ?? '', reason);
  }
});

test('BuildLog blames no derivation for the failure of a dependency', () => {
  const { log } = open();
  log.take(message(`error: 1 dependencies of derivation '${TOP}' failed to build`));
  log.take(message(`error: Cannot build '${TOP}'.\n       Reason: 1 dependency failed.`));
  log.take(message(`error: build of '${TOP}', '${DRV}' failed`));
  assert.equal(log.failures.size, 0);
});

test('BuildLog keeps the last lines of a log, however long it is', () => {
  const { log } = open();
  log.take(start(DRV));
  for (let count = 0; count < 1000; count++) log.take(line(`line ${count}`));
  assert.equal(log.tail(DRV).length, 40);
  assert.equal(log.tail(DRV).at(-1), 'line 999');
});

test('BuildLog passes what is no event on as it is', () => {
  const { log, lines } = open();
  log.take('something else');
  log.take('@nix {broken');
  assert.deepEqual(lines, ['something else', '@nix {broken']);
});
