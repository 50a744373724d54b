// `slipway cache fsck` and `slipway cache rebuild`: what is stored against what is known, and the one from the other.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { fsck, type FsckReport } from '../cache/recovery/fsck.ts';
import { flushJournal } from '../cache/recovery/journal.ts';
import { rebuildDatabase, type RebuildResult } from '../cache/recovery/rebuild.ts';
import { lockDirectory } from '../storage/directory-lock.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { dataPaths, openData } from './data-directory.ts';
import { type DataOptions, withDataOptions } from './data-options.ts';
import { openServerBlobs, recallStorage } from './server-storage.ts';
import { formatBytes, formatCount, formatTable, makeStyle } from './style.ts';

interface FsckFlags extends DataOptions {
  readonly quick?: boolean;
  readonly full?: boolean;
  readonly repair?: boolean;
}

export function registerCacheCare(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('fsck'), io)
    .description('Compare what the database says with what is stored; also while the server runs')
    .option('--quick', 'presence and size of each pack (default)')
    .option('--full', 'read every byte and compare every chunk with its name')
    .option('--repair', 'mark what is damaged as absent, so that the next push heals it')
    .addHelpText(
      'after',
      '\nExit code 8 when something is damaged.\n\nExample:\n  slipway cache fsck --full --repair',
    )
    .action(async (options: FsckFlags) => await runFsck(options, io));
  withDataOptions(cache.command('rebuild'), io)
    .description('Restore a lost database from packs and journal; the server must be stopped')
    .addHelpText(
      'after',
      '\nExample:\n  mv slipway.db* /tmp/ && slipway cache rebuild --data /var/lib/slipway',
    )
    .action(async (options: DataOptions) => await runRebuild(options, io));
}

async function runFsck(options: FsckFlags, io: CliIo): Promise<void> {
  if (options.quick === true && options.full === true)
    throw new SlipwayError('invalid', '--quick and --full exclude each other.');
  const paths = dataPaths(options.data);
  await using data = await openData(options.data);
  await using blobs = await openServerBlobs(paths, await recallStorage(paths));
  const { database } = data;
  const report = await fsck(
    { database, blobs },
    { full: options.full === true, repair: options.repair === true },
  );
  if (options.repair === true) await flushJournal({ database, blobs });
  io.stdout(options.json === true ? `${JSON.stringify(report)}\n` : renderFsck(io, report));
  if (!report.clean) throw damaged(report, options.repair === true);
}

async function runRebuild(options: DataOptions, io: CliIo): Promise<void> {
  const paths = dataPaths(options.data);
  if (!existsSync(paths.root))
    throw new SlipwayError('not_found', `There is no data directory ${paths.root}.`, {
      next: 'Name it with --data.',
    });
  using _lock = lockDirectory(paths.root);
  await using data = await openData(options.data, { make: true });
  await using blobs = await openServerBlobs(paths, await recallStorage(paths));
  const result = await rebuildDatabase({ database: data.database, blobs });
  const caches = (await data.caches.list()).map(({ name }) => name);
  const keyless = caches.filter((name) => !existsSync(join(paths.keys, `cache-${name}.key`)));
  io.stdout(
    options.json === true
      ? `${JSON.stringify({ ...result, caches, keyless })}\n`
      : renderRebuild(io, { ...result, caches, keyless }),
  );
}

function renderFsck(io: CliIo, report: FsckReport): string {
  const style = makeStyle(io.color);
  const rows: [string, string][] = [
    ['packs', String(report.packs)],
    ['missing', report.missingPacks.join(' ') || 'none'],
    ['of wrong size', report.wrongPacks.join(' ') || 'none'],
    ['read', `${formatCount(report.chunks, 'chunk')}, ${formatBytes(report.bytes)}`],
    [
      'damaged',
      `${formatCount(report.damagedChunks, 'chunk')}, ${formatCount(report.damagedContents, 'content')}`,
    ],
    [
      'journal',
      report.brokenJournals.length === 0 ? 'readable' : `broken: ${report.brokenJournals.join(' ')}`,
    ],
    ['not named', `${formatCount(report.unnamedPacks, 'pack')} (uploads under way or cut off)`],
    ...report.damagedPaths.map((path): [string, string] => ['absent path', path]),
  ];
  return formatTable(rows.map(([name, value]) => [style.dim(name), value]));
}

interface Rebuilt extends RebuildResult {
  readonly caches: readonly string[];
  readonly keyless: readonly string[];
}

function renderRebuild(io: CliIo, result: Rebuilt): string {
  const style = makeStyle(io.color);
  const rows: [string, string][] = [
    ['packs', String(result.packs)],
    ['unreadable', result.brokenPacks.join(' ') || 'none'],
    ['contents', `${result.contents}, ${result.damagedContents} of them damaged`],
    ['caches', result.caches.join(' ') || 'none'],
    ['records', `${result.records}, ${result.lostRecords} without their content`],
    [
      'journal',
      result.brokenJournals.length === 0 ? 'readable' : `broken: ${result.brokenJournals.join(' ')}`,
    ],
    ...result.keyless.map((name): [string, string] => [
      'no key',
      `keys/cache-${name}.key: restore it before the server starts, or it makes another`,
    ]),
    ['tokens', 'not restored: make new ones with "slipway token create"'],
  ];
  return formatTable(rows.map(([name, value]) => [style.dim(name), value]));
}

function damaged(report: FsckReport, repaired: boolean): SlipwayError {
  return new SlipwayError(
    'unavailable',
    `The cache is damaged: ${formatCount(report.damagedChunks, 'chunk')}, ${formatCount(report.damagedContents, 'content')}.`,
    {
      next: repaired
        ? 'Push the absent paths again: that heals them.'
        : 'slipway cache fsck --repair marks them as absent; pushing them again heals them.',
    },
  );
}
