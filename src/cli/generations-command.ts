// `slipway generations HOST`: the generations of a host's system profile; --json is what nixos-rebuild prints, and more.
import type { Command } from 'commander';
import { type Generation, readGenerations } from '../deploy/generations.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { addHostOptions, chooseHosts, type HostOptions, openChosenHost } from './host-options.ts';
import { formatTable, makeStyle } from './style.ts';

export function registerGenerations(program: Command, io: CliIo): void {
  const command = program
    .command('generations')
    .description('List the generations of a host')
    .argument('[host]', 'name of the host, or REF#host');
  addHostOptions(command)
    .addHelpText('after', '\nExample:\n  slipway generations web1')
    .action(async (name: string | undefined, options: HostOptions) => {
      if (name === undefined && options.host === undefined)
        throw new SlipwayError('invalid', 'Which host?', { next: 'slipway generations HOST' });
      const [chosen] = await chooseHosts(name === undefined ? [] : [name], options, io);
      if (chosen === undefined) throw new SlipwayError('not_found', 'There is no such host.');
      await using host = await openChosenHost(chosen, options, io);
      const generations = await readGenerations(host);
      io.stdout(options.json === true ? `${JSON.stringify(generations)}\n` : render(io, generations));
    });
}

function render(io: CliIo, generations: readonly Generation[]): string {
  const style = makeStyle(io.color);
  const head = ['generation', 'built', 'NixOS', 'kernel', 'revision', ''].map((title) => style.dim(title));
  const rows = generations.map((generation) => [
    String(generation.generation),
    generation.date,
    generation.nixosVersion,
    generation.kernelVersion,
    generation.configurationRevision.slice(0, 12),
    [generation.current ? style.good('current') : '', generation.booted ? 'booted' : '']
      .filter((mark) => mark !== '')
      .join(', '),
  ]);
  return formatTable([head, ...rows]);
}
