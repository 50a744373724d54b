// `slipway watch-store`: push every path that this machine makes, as it makes it. Paths wait in a folder, so nothing is
// lost when the cache is down or this program restarts, and builds never wait: the post-build hook only leaves a note.
import { join } from 'node:path';
import type { Command } from 'commander';
import { drainQueue, type DrainEvent } from '../client/drain-queue.ts';
import { findOutputs } from '../client/find-outputs.ts';
import { resolveCache } from '../client/known-servers.ts';
import { pushClosure } from '../client/push-closure.ts';
import { PushQueue } from '../client/push-queue.ts';
import { watchStore } from '../client/store-watcher.ts';
import { findInvalidPaths, openNix } from '../effects/nix-cli.ts';
import type { CliIo } from './cli-io.ts';
import { formatCount } from './style.ts';

interface WatchFlags {
  readonly queue?: string;
  readonly once?: boolean;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  slipway watch-store main
  slipway watch-store main --queue /var/spool/slipway/push     (with host/post-build-hook.sh in nix.conf)
  slipway watch-store main --once                              (push what waits, then end)`;

export function registerWatchStore(program: Command, io: CliIo): void {
  program
    .command('watch-store')
    .description('Push every path that is built here, as it is built; builds never wait for it')
    .argument(
      '<cache>',
      'URL, <server>:<cache>, or the name of a cache on the server that was logged in to last',
    )
    .option('--queue <folder>', 'where paths wait (default: $XDG_STATE_HOME/slipway/push)')
    .option('--once', 'push what waits, then end; watch nothing')
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, flags: WatchFlags) => await watchAndPush(name, flags, io));
}

async function watchAndPush(name: string, flags: WatchFlags, io: CliIo): Promise<void> {
  const target = await resolveCache(io.env, name);
  const queue = new PushQueue(flags.queue ?? defaultQueue(io));
  await queue.open();
  const nix = openNix();
  const drained = drainQueue({
    queue,
    push: async (paths, signal) => await pushClosure({ target, paths, signal }),
    findInvalid: async (paths, signal) => await findInvalidPaths(nix, paths, signal),
    findOutputs,
    report: (event) => io.stderr(flags.json === true ? `${JSON.stringify(shown(event))}\n` : render(event)),
    signal: io.signal,
    ...(flags.once === true && { once: true }),
  });
  if (flags.once === true) return await drained;
  const failure = Promise.withResolvers<never>();
  using watcher = watchStore('/nix/store', (path) => {
    queue.add([path]).catch((error: unknown) => failure.reject(error));
  });
  await Promise.race([drained, watcher.failed, failure.promise]);
}

function defaultQueue(io: CliIo): string {
  const state = io.env['XDG_STATE_HOME'] ?? join(io.env['HOME'] ?? '/var/lib', '.local', 'state');
  return join(state, 'slipway', 'push');
}

function shown(event: DrainEvent): Record<string, unknown> {
  if (event.kind === 'pushed') return { ...event };
  const { error, ...rest } = event;
  return { ...rest, code: error.code, message: error.message };
}

function render(event: DrainEvent): string {
  if (event.kind === 'pushed') return `pushed ${formatCount(event.paths, 'path')}\n`;
  const { message } = event.error;
  if (event.kind === 'outage') return `waiting ${Math.round(event.pauseMs / 1000)} s: ${message}\n`;
  return `${event.final ? 'set aside' : 'will try again'}: ${message}\n`;
}
