// `slipway cache stats`: what all caches hold, what that takes, and what was collected last.
import type { Command } from 'commander';
import type { LookupFigures } from '../cache/lookup-tally.ts';
import { dedupRatio, readStorageFigures, type StorageFigures } from '../cache/storage-figures.ts';
import type { CliIo } from './cli-io.ts';
import { defaultDataDirectory, openData } from './data-directory.ts';
import { formatBytes, formatCount, formatDuration, formatTable, makeStyle } from './style.ts';

interface Options {
  readonly data: string;
  readonly json?: boolean;
}

export function registerStats(cache: Command, io: CliIo): void {
  cache
    .command('stats')
    .description('What all caches hold, what that takes on disk, and what was collected last')
    .option('--data <directory>', 'data directory of the server', defaultDataDirectory(io))
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  slipway cache stats')
    .action(async (options: Options) => {
      await using data = await openData(options.data);
      const figures = await readStorageFigures(data.database);
      const ratio = dedupRatio(figures);
      io.stdout(
        options.json === true
          ? `${JSON.stringify({ ...figures, ...(ratio !== undefined && { dedupRatio: ratio }) })}\n`
          : render(io, figures, ratio),
      );
    });
}

function render(io: CliIo, figures: StorageFigures, ratio: number | undefined): string {
  const style = makeStyle(io.color);
  const dimmed = (rows: readonly (readonly string[])[]): string =>
    formatTable(rows.map(([name = '', ...rest]) => [style.dim(name), ...rest]));
  const caches = figures.caches.map(
    ({ name, paths, narBytes, tombstoned, conflicts, pulledPaths, pulledBytes, lookups }) => [
      style.bold(name),
      formatCount(paths, 'path'),
      formatBytes(narBytes),
      hitsOf(lookups),
      pulledPaths > 0 ? `${pulledPaths} from upstreams (${formatBytes(pulledBytes)})` : '',
      tombstoned > 0 ? `${tombstoned} about to go` : '',
      conflicts > 0 ? style.bad(`${conflicts} conflicts`) : '',
    ],
  );
  const sharing = ratio === undefined ? '' : style.dim(`(1 byte holds ${ratio.toFixed(1)} bytes of NARs)`);
  const storage = [
    ['on disk', `${formatBytes(figures.packBytes)} in ${formatCount(figures.packs, 'pack')} ${sharing}`],
    ['contents', `${figures.contents}, ${formatBytes(figures.contentBytes)} uncompressed`],
    ['uploads', `${figures.uploadsWaiting} wait for their narinfo`],
    ['pins', String(figures.pins)],
    ...(figures.damagedContents > 0
      ? [['damaged', style.bad(formatCount(figures.damagedContents, 'content'))]]
      : []),
    ['last collection', collectionOf(figures)],
  ];
  return `${formatTable(caches)}${dimmed(storage)}`;
}

/** Of the questions for narinfos, also those of clients that want to push. */
function hitsOf(lookups: LookupFigures | undefined): string {
  if (lookups === undefined) return 'not asked';
  const { hits, misses, days } = lookups;
  return `had ${Math.floor((hits * 100) / (hits + misses))} % of ${hits + misses} asked for in ${days} days`;
}

function collectionOf({ lastCollection: last }: StorageFigures): string {
  if (last === undefined) return 'never';
  const freed = formatBytes(last.packs?.removedBytes ?? 0);
  const took = formatDuration(last.endedAt - last.startedAt);
  return `${new Date(last.endedAt).toISOString()}, ${formatCount(last.paths.removed, 'path')} and ${freed} removed in ${took}`;
}
