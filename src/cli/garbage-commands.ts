// `slipway cache gc` and `slipway cache delete`: give disk back by the rules, and take one path out at once.
import type { Command } from 'commander';
import {
  collectGarbage,
  DEFAULT_GARBAGE_SETTINGS,
  SHORTEST_GRACE_MS,
  type GarbageReport,
  type GarbageStep,
} from '../cache/garbage/collect-garbage.ts';
import { deletePath, type Deletion } from '../cache/garbage/delete-path.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { dataPaths, openData } from './data-directory.ts';
import { type DataOptions, withDataOptions } from './data-options.ts';
import { parseDuration } from './parse-duration.ts';
import { openServerBlobs, recallStorage } from './server-storage.ts';
import { formatBytes, formatCount, formatDuration, formatTable, makeStyle, type Style } from './style.ts';

interface GcOptions extends DataOptions {
  readonly dryRun?: boolean;
  readonly keep?: string;
  readonly grace?: string;
}

export function registerGarbage(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('gc'), io)
    .description('Remove what no release, host, pin or retention keeps; safe beside a running server')
    .option('--dry-run', 'say what would go; change nothing')
    .option(
      '--keep <time>',
      'retention of caches that have none of their own, such as 30d (default: for ever)',
    )
    .option('--grace <time>', 'how long a path is still served once nothing keeps it (default: 3d)')
    .addHelpText('after', '\nExample:\n  slipway cache gc --dry-run')
    .action(async (options: GcOptions) => await runGc(options, io));
  withDataOptions(cache.command('delete'), io)
    .argument('<path>', 'a store path')
    .description('Take one path out of every cache now, and its bytes off the disk: for a leaked secret')
    .option('--force', 'also when other paths reference it')
    .addHelpText('after', '\nExample:\n  slipway cache delete /nix/store/…-leaked-config')
    .action(async (path: string, options: DataOptions & { readonly force?: boolean }) => {
      await using data = await openData(options.data);
      await using blobs = await openBlobs(options.data);
      const parts = { database: data.database, blobs };
      const deletion = await deletePath(parts, parseStorePath(path), { force: options.force === true });
      io.stdout(options.json === true ? `${JSON.stringify(deletion)}\n` : renderDeletion(io, deletion));
      if (!deletion.proven) throw stillThere(deletion);
    });
}

async function runGc(options: GcOptions, io: CliIo): Promise<void> {
  await using data = await openData(options.data);
  await using blobs = await openBlobs(options.data);
  const report = await collectGarbage(
    { database: data.database, blobs },
    {
      settings: {
        ...DEFAULT_GARBAGE_SETTINGS,
        ...(options.keep !== undefined && { keepMs: parseDuration(options.keep) * 1000 || undefined }),
        ...(options.grace !== undefined && { graceMs: graceOf(options.grace) }),
      },
      dryRun: options.dryRun === true,
      signal: io.signal,
      onStep: options.json === true ? () => undefined : stepLine(io),
    },
  );
  if (io.terminal) io.stderr('\r\u001B[K');
  io.stdout(options.json === true ? `${JSON.stringify(report)}\n` : renderReport(io, report));
}

/** What is going on; for a log, steps that come after some seconds only. */
function stepLine(io: CliIo): (step: GarbageStep) => void {
  let told = performance.now();
  return (step) => {
    const text =
      step.what === 'settling'
        ? `settling packs: ${formatBytes(step.done)} of ${formatBytes(step.all)}`
        : `looking at ${step.what}`;
    if (io.terminal) io.stderr(`\r\u001B[K${text}`);
    else if (performance.now() - told > 5_000) io.stderr(`${text}\n`);
    else return;
    told = performance.now();
  };
}

function graceOf(text: string): number {
  const grace = parseDuration(text) * 1000;
  if (grace >= SHORTEST_GRACE_MS) return grace;
  throw new SlipwayError('invalid', 'A grace of less than five minutes could break a download under way.', {
    next: 'To remove one path at once: slipway cache delete PATH',
  });
}

async function openBlobs(directory: string): ReturnType<typeof openServerBlobs> {
  const paths = dataPaths(directory);
  return await openServerBlobs(paths, await recallStorage(paths));
}

function renderReport(io: CliIo, report: GarbageReport): string {
  const style = makeStyle(io.color);
  const { paths } = report;
  const rows = [
    ['kept', `${formatCount(paths.kept, 'path')}, ${formatCount(report.roots, 'root')}`],
    [
      'tombstoned',
      `${formatCount(paths.tombstoned, 'path')} ${style.dim('(served until their grace ends; use saves them)')}`,
    ],
    ['saved', `${formatCount(paths.revived, 'path')} ${style.dim('(tombstoned before, kept again)')}`],
    ['waiting', formatCount(paths.waiting, 'path')],
    [
      'removed',
      `${formatCount(paths.removed, 'path')}, ${formatCount(report.contents?.contents ?? 0, 'content')}, ${formatCount(report.logs, 'log')}`,
    ],
    ...storageRows(report),
    ['took', formatDuration(report.endedAt - report.startedAt)],
  ];
  const head = report.dryRun ? 'This would be collected; nothing was changed.\n' : '';
  return `${head}${formatTable(rows.map(([name = '', value = '']) => [style.dim(name), value]))}`;
}

function storageRows({ chunks, packs }: GarbageReport): string[][] {
  const rows: string[][] = [];
  if (chunks)
    rows.push([
      'chunks',
      `${chunks.marked} marked, ${chunks.removed} removed (${formatBytes(chunks.removedBytes)})`,
    ]);
  if (packs)
    rows.push([
      'packs',
      `${packs.settled} settled, ${packs.rewritten} rewritten, ${packs.removed} removed (${formatBytes(packs.removedBytes)})`,
    ]);
  if (packs !== undefined && packs.unreadable > 0)
    rows.push([
      'damaged',
      `${formatCount(packs.unreadable, 'pack')} could not be read; they were left as they are`,
    ]);
  return rows;
}

function renderDeletion(io: CliIo, deletion: Deletion): string {
  const style = makeStyle(io.color);
  const { removedPacks, newPacks } = deletion;
  return formatTable(
    [
      ['path', deletion.storePath],
      ['taken out of', deletion.caches.join(', ')],
      [
        'bytes',
        `${formatBytes(deletion.removedBytes)} in ${formatCount(deletion.removedChunks, 'chunk')} of its own`,
      ],
      ['shared', `${formatCount(deletion.sharedChunks, 'chunk')} that other contents hold as well`],
      ...(deletion.sameContents.length > 0
        ? [[style.bad('same contents'), deletion.sameContents.join(' ')]]
        : []),
      ['packs removed', removedPacks.join(' ') || 'none'],
      ['written anew', newPacks.join(' ') || 'none'],
      ['proof', proofOf(deletion, style)],
    ].map(([name = '', value = '']) => [style.dim(name), value]),
  );
}

function proofOf(deletion: Deletion, style: Style): string {
  if (!deletion.proven) return 'none';
  return `${style.good('looked again:')} no removed pack is left, and no new one holds any of the chunks`;
}

function stillThere(deletion: Deletion): SlipwayError {
  const others = deletion.sameContents;
  return others.length > 0
    ? new SlipwayError(
        'conflict',
        `Its bytes stay: ${others.length} other paths have the very same contents.`,
        {
          next: `Delete these as well: ${others.slice(0, 5).join(' ')}`,
        },
      )
    : new SlipwayError(
        'unavailable',
        'The path is gone from the caches, but not all of its bytes could be removed.',
        {
          next: 'Run the command for the path again after "slipway cache gc"; look at the server for damaged packs.',
        },
      );
}
