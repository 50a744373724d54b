// A followed trial whose session stays open and says nothing more is lost: whoever follows connects anew.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Host } from '../effects/host.ts';
import { isCode, SlipwayError } from '../util/errors.ts';
import { watchTrial } from './trial.ts';

/** A session that prints `lines`, then stays open until it is ended. */
function openSession(lines: readonly string[]): { host: Host; begun: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const run: Host['run'] = async (_argv, options = {}) => {
    for (const line of lines) options.onStdoutLine?.(line);
    resolve();
    return await new Promise((_, reject) => {
      options.signal?.addEventListener('abort', () => reject(new SlipwayError('cancelled', 'ended')));
    });
  };
  return { host: { name: 'web1', run } as Host, begun: promise };
}

test('watchTrial() gives a session up that has been silent for 45 s', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { host, begun } = openSession(['log activating the configuration...', 'alive']);
  const watching = watchTrial(host, { id: 'x' }, { onState: () => undefined });
  const ended = assert.rejects(watching, (error) => isCode(error, 'host_unreachable'));
  await begun;
  t.mock.timers.tick(45_000);
  await ended;
});

test('watchTrial() tells a cancelled watch as cancelled', async () => {
  const { host, begun } = openSession([]);
  const stop = new AbortController();
  const watching = watchTrial(host, { id: 'x' }, { onState: () => undefined }, stop.signal);
  const ended = assert.rejects(watching, (error) => isCode(error, 'cancelled'));
  await begun;
  stop.abort();
  await ended;
});
