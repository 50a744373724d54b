// `slipway rollback HOST`: back to an earlier generation, through the same trial as any deploy.
import type { Command } from 'commander';
import { NO_HOOKS } from '../api/deploy-hooks.ts';
import { deployToHost } from '../deploy/deploy-to-host.ts';
import { planRollback, readGenerations } from '../deploy/generations.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { openProgressView } from './deploy-progress-view.ts';
import { reportOutcomes } from './deploy-report.ts';
import { addHostOptions, chooseHosts, type HostOptions, openChosenHost } from './host-options.ts';

interface RollbackOptions extends HostOptions {
  readonly to?: string;
  readonly force?: boolean;
  readonly confirm: boolean;
  readonly hooks: boolean;
}

export function registerRollback(program: Command, io: CliIo): void {
  const command = program
    .command('rollback')
    .description('Go back to an earlier generation of a host')
    .argument('[host]', 'name of the host, or REF#host');
  addHostOptions(command)
    .option('--to <generation>', 'its number (default: the newest before the current one that differs)')
    .option('--force', 'also to a system that is quarantined')
    .option('--no-confirm', 'do not ask for the confirmation over a fresh connection')
    .option('--no-hooks', 'run none of the hooks')
    .addHelpText('after', '\nExample:\n  slipway rollback web1 --to 41')
    .action(async (name: string | undefined, options: RollbackOptions) => await rollback(name, options, io));
}

async function rollback(name: string | undefined, options: RollbackOptions, io: CliIo): Promise<void> {
  const started = performance.now();
  const json = options.json === true;
  if (name === undefined && options.host === undefined)
    throw new SlipwayError('invalid', 'Which host?', { next: 'slipway rollback HOST' });
  const [chosen] = await chooseHosts(name === undefined ? [] : [name], options, io);
  if (chosen === undefined) throw new SlipwayError('not_found', 'There is no such host.');
  await using host = await openChosenHost(chosen, options, io);
  const target = planRollback(chosen.name, await readGenerations(host), parseGeneration(options.to));
  const request = {
    toplevel: target.toplevel,
    generation: target.generation,
    release: `generation ${target.generation}`,
    health: chosen.health,
    hooks: options.hooks ? chosen.hooks : NO_HOOKS,
    reboot: chosen.reboot,
    force: options.force === true,
    confirm: options.confirm,
  };
  using view = openProgressView(io, { json, hosts: [chosen.name] });
  const outcome = await deployToHost(host, request, view.emit, io.signal);
  view[Symbol.dispose]();
  reportOutcomes(io, [outcome], { json, ms: performance.now() - started });
}

function parseGeneration(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new SlipwayError('invalid', `"${text}" is not a generation number.`, {
    next: 'See: slipway generations HOST',
  });
}
