// `slipway pin`, `unpin` and `pins`: what garbage collection must keep, whatever its age.
import type { Command } from 'commander';
import { DEFAULT_GARBAGE_SETTINGS } from '../cache/garbage/collect-garbage.ts';
import { readRoots } from '../cache/garbage/gc-roots.ts';
import { addPin, listPins, removePin } from '../cache/garbage/pins.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { CliIo } from './cli-io.ts';
import { openData } from './data-directory.ts';
import { type DataOptions, withDataOptions } from './data-options.ts';
import { formatTable, makeStyle } from './style.ts';

export function registerPin(program: Command, io: CliIo): void {
  withDataOptions(program.command('pin'), io)
    .argument('<name>', 'what it is for')
    .argument('<path...>', 'store paths; their closures are kept, too')
    .description('Keep paths in every cache until they are unpinned')
    .addHelpText('after', '\nExample:\n  slipway pin installer-24.05 /nix/store/…-installer.iso')
    .action(async (name: string, paths: string[], options: DataOptions) => {
      await using data = await openData(options.data);
      await addPin(
        data.database,
        name,
        paths.map((path) => parseStorePath(path)),
      );
      io.stdout(options.json === true ? `${JSON.stringify({ name, paths })}\n` : `Pinned ${name}.\n`);
    });
}

export function registerUnpin(program: Command, io: CliIo): void {
  withDataOptions(program.command('unpin'), io)
    .argument('<name>', 'as "slipway pins" shows it')
    .argument('[path...]', 'only these paths of the pin')
    .description('Let go of a pin')
    .addHelpText('after', '\nExample:\n  slipway unpin installer-24.05')
    .action(async (name: string, paths: string[], options: DataOptions) => {
      await using data = await openData(options.data);
      const removed = await removePin(
        data.database,
        name,
        paths.map((path) => parseStorePath(path)),
      );
      io.stdout(options.json === true ? `${JSON.stringify({ name, removed })}\n` : `Unpinned ${name}.\n`);
    });
}

export function registerPins(program: Command, io: CliIo): void {
  withDataOptions(program.command('pins'), io)
    .description('What is pinned, and with --all also what releases and hosts keep')
    .option('--all', 'every root of garbage collection, with its reason')
    .addHelpText('after', '\nExample:\n  slipway pins --all')
    .action(async (options: DataOptions & { readonly all?: boolean }) => {
      await using data = await openData(options.data);
      const pins = await listPins(data.database);
      const roots =
        options.all === true ? await readRoots(data.database, DEFAULT_GARBAGE_SETTINGS.roots) : [];
      if (options.json === true)
        return io.stdout(`${JSON.stringify(options.all === true ? { roots } : { pins })}\n`);
      const style = makeStyle(io.color);
      const rows = options.all
        ? roots.map(({ reason, storePath }) => [style.bold(reason), storePath])
        : pins.flatMap(({ name, paths }) => paths.map((path) => [style.bold(name), path]));
      io.stdout(rows.length === 0 ? 'Nothing is pinned.\n' : formatTable(rows));
    });
}
