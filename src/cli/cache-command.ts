// `slipway cache …`: make caches and see what they hold. Works on the data directory, also while the server runs.
import { InvalidArgumentError, type Command } from 'commander';
import { registerConfigure } from './cache-configure.ts';
import { registerMirror } from './cache-mirror.ts';
import { registerTrust } from './cache-trust.ts';
import { registerUpstream } from './cache-upstream.ts';
import { renderView, viewOf, type CacheView } from './cache-view.ts';
import { registerCacheCare } from './cache-care-command.ts';
import { registerStats } from './cache-stats.ts';
import type { CliIo } from './cli-io.ts';
import { openData } from './data-directory.ts';
import { type DataOptions, printValue, withDataOptions } from './data-options.ts';
import { registerGarbage } from './garbage-commands.ts';
import { formatBytes, formatCount, formatTable, makeStyle } from './style.ts';

interface CreateOptions extends DataOptions {
  readonly public?: boolean;
  readonly priority: number;
  readonly storeDir: string;
  readonly openClosures?: boolean;
}

export function registerCache(program: Command, io: CliIo): void {
  const cache = program
    .command('cache')
    .description('Make binary caches and see what they hold')
    .addHelpText('after', '\nExample:\n  slipway cache create main --public');
  registerCreate(cache, io);
  registerCacheCare(cache, io);
  registerGarbage(cache, io);
  registerStats(cache, io);
  registerConfigure(cache, io);
  registerTrust(cache, io);
  registerUpstream(cache, io);
  registerMirror(cache, io);
  withDataOptions(cache.command('info'), io)
    .argument('<name>')
    .description('Settings, public key and contents of a cache')
    .addHelpText('after', '\nExample:\n  slipway cache info main')
    .action(async (name: string, options: DataOptions) => {
      await using data = await openData(options.data);
      printValue(io, options, await viewOf(data, await data.caches.get(name)), renderView);
    });
  withDataOptions(cache.command('list'), io)
    .description('All caches of this server')
    .addHelpText('after', '\nExample:\n  slipway cache list --json')
    .action(async (options: DataOptions) => {
      await using data = await openData(options.data);
      const views: CacheView[] = [];
      for (const found of await data.caches.list()) views.push(await viewOf(data, found));
      printValue(io, options, { caches: views }, renderList);
    });
}

function registerCreate(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('create'), io)
    .argument('<name>', 'also the first part of its URL')
    .description('Make a cache and its signing key')
    .option('--public', 'let everybody read it; only tokens write')
    .option('--priority <n>', 'lower is asked first; cache.nixos.org has 40', parsePriority, 30)
    .option('--store-dir <path>', 'store directory of its paths', '/nix/store')
    .option('--open-closures', 'take paths whose references are not in this cache, but for instance upstream')
    .addHelpText('after', '\nExample:\n  slipway cache create main --public --priority 30')
    .action(async (name: string, options: CreateOptions) => {
      await using data = await openData(options.data);
      const created = await data.caches.create({
        name,
        isPublic: options.public === true,
        priority: options.priority,
        storeDir: options.storeDir,
        closed: options.openClosures !== true,
      });
      printValue(io, options, await viewOf(data, created), renderView);
    });
}

function renderList(io: CliIo, { caches }: { readonly caches: readonly CacheView[] }): string {
  const style = makeStyle(io.color);
  if (caches.length === 0) return 'No cache yet. Make one: slipway cache create main\n';
  return formatTable(
    caches.map((view) => [
      style.bold(view.name),
      view.public ? 'public' : 'private',
      formatCount(view.paths, 'path'),
      formatBytes(view.narBytes),
      style.dim(view.publicKeys.join(' ')),
    ]),
  );
}

function parsePriority(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}
