// What systemd hears, over a real datagram socket; the real systemd is asked in test/e2e/agent-trial.test.ts.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { openServiceManager, watchdogInterval } from './service-manager.ts';

const LISTEN = `use Socket; $| = 1; socket(S, AF_UNIX, SOCK_DGRAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die;
print "bound\\n"; while (defined recv(S, $m, 4096, 0)) { $m =~ s/\\n/ /g; print "$m\\n"; }`;

test('the agent tells systemd that it works, what it does, and that it gets on', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-notify-'));
  const socket = join(folder, 'socket');
  const listener = spawn('perl', ['-e', LISTEN, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const lines = createInterface({ input: listener.stdout })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, 'bound');
    const errors: string[] = [];
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' };
    using service = openServiceManager({ env, isAlive: () => true, onError: (text) => errors.push(text) });
    const heard = new Set<string>();
    service.ready();
    service.status('release 3\nwhat this host runs');
    while (
      !['READY=1', 'STATUS=release 3 what this host runs', 'WATCHDOG=1'].every((one) => heard.has(one))
    ) {
      const { value } = await lines.next();
      for (const word of String(value).split(/ (?=[A-Z]+=)/)) heard.add(word.trim());
    }
    assert.deepEqual(errors, []);
  } finally {
    listener.kill();
    await rm(folder, { recursive: true });
  }
});

test('without systemd nothing is said', () => {
  const errors: string[] = [];
  const onError = (message: string): void => void errors.push(message);
  using service = openServiceManager({ env: {}, isAlive: () => true, onError });
  service.ready();
  service.status('x');
  assert.deepEqual(errors, []);
});

test('watchdogInterval() is half of what systemd waits for this process', () => {
  assert.equal(watchdogInterval({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '7' }, 7), 15_000);
  assert.equal(watchdogInterval({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '8' }, 7), undefined);
  assert.equal(watchdogInterval({}, 7), undefined);
  assert.equal(watchdogInterval({ WATCHDOG_USEC: 'x' }, 7), undefined);
});
