// `slipway cache who|conflicts|promote`: who wrote a path, what was refused, and publishing what a contributor holds.
import { userInfo } from 'node:os';
import type { Command } from 'commander';
import { planPromotion, Promoter } from '../cache/trust/promotion.ts';
import { findOrigins, listConflicts, type Conflict, type Origin } from '../cache/trust/provenance.ts';
import { endEpoch } from '../cache/resign-paths.ts';
import { parseStorePath, storePathHash } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import { printValue, withDataOptions, type DataOptions } from './data-options.ts';
import type { CliIo } from './cli-io.ts';
import { openData } from './data-directory.ts';
import { formatCount, formatTable, makeStyle, stripControl } from './style.ts';

export function registerTrust(cache: Command, io: CliIo): void {
  registerWho(cache, io);
  registerConflicts(cache, io);
  registerPromote(cache, io);
}

function registerWho(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('who'), io)
    .argument('<name>', 'the cache')
    .argument('<path>', 'store path, or its hash part')
    .description('Say who wrote a path, when and with which token, in the cache and its overlays')
    .addHelpText('after', '\nExample:\n  slipway cache who main /nix/store/…-hello-2.12')
    .action(async (name: string, path: string, options: DataOptions) => {
      await using data = await openData(options.data);
      const found = await data.caches.get(name);
      const origins = await findOrigins(data.database, found, hashOf(path, found.storeDir));
      if (origins.length === 0)
        throw new SlipwayError('not_found', `Nobody has written ${path} to ${name}.`, {
          next: 'Paths that came before version 3 of the database have no record.',
        });
      printValue(io, options, { origins }, renderOrigins);
    });
}

function registerConflicts(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('conflicts'), io)
    .argument('<name>', 'the cache')
    .description('List what was refused because the path is there with other contents')
    .addHelpText('after', '\nExample:\n  slipway cache conflicts main')
    .action(async (name: string, options: DataOptions) => {
      await using data = await openData(options.data);
      const conflicts = await listConflicts(data.database, await data.caches.get(name));
      printValue(io, options, { conflicts }, renderConflicts);
    });
}

function registerPromote(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('promote'), io)
    .argument('<name>', 'the cache')
    .argument('<writer>', 'whose overlay: the id of its token, or its identity such as github-4711')
    .argument('<path>', 'store path, or its hash part')
    .description("Publish a path of a contributor, with what it needs, under the cache's own key")
    .addHelpText('after', '\nExample:\n  slipway cache promote main k3p0s7wq1z /nix/store/…-hello-2.12')
    .action(async (name: string, writer: string, path: string, options: DataOptions) => {
      await using data = await openData(options.data);
      const base = await data.caches.get(name);
      const overlay = await data.caches.get(`${name}~${writer}`);
      const hash = hashOf(path, base.storeDir);
      const promoter = new Promoter(data.database, data.keys);
      const plan = await planPromotion(data.database, { base, overlay, hash });
      for (const needed of plan) {
        const done = await promoter.promote({ base, overlay, hash: needed }, operator(), 'operator');
        if (done.kind === 'kept') throw new SlipwayError('conflict', `It was not published: ${done.reason}.`);
      }
      await endEpoch(data.database, base);
      printValue(io, options, { promoted: plan }, (_io, { promoted }) =>
        promoted.length === 0
          ? 'Nothing to publish: it is published already, or the overlay does not hold it.\n'
          : `Published ${formatCount(promoted.length, 'path')}.\n`,
      );
    });
}

function operator() {
  const name = userInfo().username;
  return { id: `operator-${name}`, name, token: 'command line' };
}

function hashOf(text: string, storeDir: string): string {
  if (/^[0-9abcdfghijklmnpqrsvwxyz]{32}$/.test(text)) return text;
  return storePathHash(parseStorePath(text, storeDir));
}

function renderOrigins(io: CliIo, { origins }: { readonly origins: readonly Origin[] }): string {
  const style = makeStyle(io.color);
  const rows = origins.map((origin) => [
    style.dim(new Date(origin.at).toISOString()),
    style.bold(stripControl(origin.writerName)),
    origin.writer,
    origin.cache,
    origin.quarantined ? style.bad(`${origin.way}, held back`) : origin.way,
    origin.narHash,
    style.dim(origin.address ?? ''),
  ]);
  const claims = origins.flatMap((origin) =>
    Object.entries(origin.claims ?? {}).map(([name, value]) => [style.dim(name), stripControl(value)]),
  );
  return formatTable(rows) + formatTable(claims);
}

function renderConflicts(io: CliIo, { conflicts }: { readonly conflicts: readonly Conflict[] }): string {
  const style = makeStyle(io.color);
  if (conflicts.length === 0)
    return 'No conflict: nobody has offered other contents for a path that is there.\n';
  return formatTable(
    conflicts.map((conflict) => [
      style.dim(new Date(conflict.at).toISOString()),
      style.bold(conflict.storePath),
      `held ${conflict.heldNarHash} by ${conflict.holder ?? 'nobody any more'}`,
      style.warn(`refused ${conflict.offeredNarHash} by ${conflict.writer}`),
    ]),
  );
}
