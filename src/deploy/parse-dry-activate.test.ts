import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDryActivate } from './parse-dry-activate.ts';

test('parseDryActivate() sorts units by what would happen to them', () => {
  const said = `would stop the following units: a.service, gone.timer
would NOT stop the following changed units: getty@tty1.service
would activate the configuration...
would reload the following units: dbus.service
would restart the following units: nginx.service
would start the following units: a.service, new.service
`;
  assert.deepEqual(parseDryActivate(said), {
    stop: ['gone.timer'],
    start: ['new.service'],
    restart: ['a.service', 'nginx.service'],
    reload: ['dbus.service'],
    untouched: ['getty@tty1.service'],
  });
});

test('parseDryActivate() finds nothing in other words', () => {
  const nothing = { stop: [], start: [], restart: [], reload: [], untouched: [] };
  assert.deepEqual(parseDryActivate('would activate the configuration...\n'), nothing);
});
