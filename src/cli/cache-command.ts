// `slipway cache …`: make caches and see what they hold. Works on the data directory, also while the server runs.
import { InvalidArgumentError, type Command } from 'commander';
import type { Cache } from '../cache/cache-registry.ts';
import { readStatistics, type CacheStatistics } from '../cache/cache-statistics.ts';
import { publicKeyOf } from '../nix/signature.ts';
import { registerConfigure } from './cache-configure.ts';
import { registerTrust } from './cache-trust.ts';
import { registerCacheCare } from './cache-care-command.ts';
import { registerStats } from './cache-stats.ts';
import type { CliIo } from './cli-io.ts';
import { openData, type OpenData } from './data-directory.ts';
import { type DataOptions, printValue, withDataOptions } from './data-options.ts';
import { registerGarbage } from './garbage-commands.ts';
import { formatBytes, formatTable, makeStyle } from './style.ts';

interface CreateOptions extends DataOptions {
  readonly public?: boolean;
  readonly priority: number;
  readonly storeDir: string;
  readonly openClosures?: boolean;
}

/** What `info` and `list` show of a cache. */
interface CacheView extends CacheStatistics {
  readonly name: string;
  readonly public: boolean;
  readonly priority: number;
  readonly storeDir: string;
  readonly closed: boolean;
  readonly publicKeys: readonly string[];
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
  withDataOptions(cache.command('info'), io)
    .argument('<name>')
    .description('Settings, public key and contents of a cache')
    .addHelpText('after', '\nExample:\n  slipway cache info main')
    .action(async (name: string, options: DataOptions) => {
      await using data = await openData(options.data);
      printValue(io, options, await viewOf(data, await data.caches.get(name)), renderOne);
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
      printValue(io, options, await viewOf(data, created), renderOne);
    });
}

async function viewOf(data: OpenData, cache: Cache): Promise<CacheView> {
  const keys = await data.keys.get(cache.name);
  return {
    name: cache.name,
    public: cache.isPublic,
    priority: cache.priority,
    storeDir: cache.storeDir,
    closed: cache.closed,
    publicKeys: keys.map(publicKeyOf),
    ...(await readStatistics(data.database, cache)),
  };
}

function renderOne(io: CliIo, view: CacheView): string {
  const style = makeStyle(io.color);
  const rows: [string, string][] = [
    ['cache', style.bold(view.name)],
    ['reading', view.public ? 'everybody' : 'tokens only'],
    ['priority', String(view.priority)],
    ['store', view.storeDir],
    ['closures', view.closed ? 'complete' : 'may refer to other caches'],
    ...view.publicKeys.map((key): [string, string] => ['public key', style.accent(key)]),
    ['paths', String(view.paths)],
    ['contents', formatBytes(view.narBytes)],
    ['on disk', `${formatBytes(view.packBytes)} (all caches of this server)`],
    ['conflicts', String(view.conflicts)],
  ];
  return formatTable(rows.map(([name, value]) => [style.dim(name), value]));
}

function renderList(io: CliIo, { caches }: { readonly caches: readonly CacheView[] }): string {
  const style = makeStyle(io.color);
  if (caches.length === 0) return 'No cache yet. Make one: slipway cache create main\n';
  return formatTable(
    caches.map((view) => [
      style.bold(view.name),
      view.public ? 'public' : 'private',
      `${view.paths} paths`,
      formatBytes(view.narBytes),
      style.dim(view.publicKeys.join(' ')),
    ]),
  );
}

function parsePriority(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}
