// `slipway diff HOST`: what a deploy of the flake would change on a host, compared with what runs there.
import type { Command } from 'commander';
import { queryRequisites } from '../deploy/closure-facts.ts';
import { type ClosureDiff, diffClosures } from '../deploy/diff-closures.ts';
import { readGenerations } from '../deploy/generations.ts';
import { readRequisites } from '../deploy/preflight.ts';
import { readHostFacts } from '../deploy/host-facts.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { buildToplevels } from './flake-fleet.ts';
import { openNix } from '../effects/nix-cli.ts';
import {
  addHostOptions,
  chooseHosts,
  type ChosenHost,
  type HostOptions,
  openChosenHost,
} from './host-options.ts';
import type { Host } from '../effects/host.ts';
import { packageLines } from './preflight-report.ts';

interface DiffOptions extends HostOptions {
  readonly from?: string;
  readonly to?: string;
}

export function registerDiff(program: Command, io: CliIo): void {
  const command = program
    .command('diff')
    .description('Show which packages differ between what a host runs and what the flake has')
    .argument('<host>', 'name of the host, or REF#host');
  addHostOptions(command)
    .option('--from <generation>', 'compare from this generation (default: what runs there)')
    .option('--to <generation>', "compare to this generation (default: the flake's system, built here)")
    .addHelpText('after', '\nExamples:\n  slipway diff web1\n  slipway diff web1 --from 41 --to 42')
    .action(async (name: string, options: DiffOptions) => await diff(name, options, io));
}

async function diff(name: string, options: DiffOptions, io: CliIo): Promise<void> {
  const [chosen] = await chooseHosts([name], options, io);
  if (chosen === undefined) throw new SlipwayError('not_found', 'There is no such host.');
  await using host = await openChosenHost(chosen, options, io);
  const before = await readRequisites(host, await findBefore(host, options.from));
  const after =
    options.to === undefined
      ? await queryRequisites(await buildAfter(chosen, io))
      : await readRequisites(host, await findGeneration(host, options.to));
  const found = diffClosures(before, after);
  io.stdout(options.json === true ? `${JSON.stringify({ host: chosen.name, ...found })}\n` : render(found));
}

async function findBefore(host: Host, from: string | undefined): Promise<string> {
  return from === undefined ? (await readHostFacts(host)).current : await findGeneration(host, from);
}

async function findGeneration(host: Host, wanted: string): Promise<string> {
  const generations = await readGenerations(host);
  const found = generations.find(({ generation }) => String(generation) === wanted);
  if (found !== undefined) return found.toplevel;
  throw new SlipwayError('not_found', `${host.name} has no generation ${wanted}.`, {
    next: `There are: ${generations.map(({ generation }) => generation).join(', ')}.`,
  });
}

async function buildAfter({ name, flake, deployRs }: ChosenHost, io: CliIo): Promise<string> {
  if (flake === undefined || deployRs !== undefined)
    throw new SlipwayError('invalid', `There is no nixosConfigurations.${name} to compare with.`, {
      next: 'Compare two generations with --from and --to.',
    });
  const onLine = (line: string): void => io.stderr(`${line}\n`);
  const [path = ''] = await buildToplevels(openNix(), flake, [name], {
    cwd: io.cwd,
    signal: io.signal,
    onLine,
  });
  return path;
}

function render({ changes, added, removed }: ClosureDiff): string {
  if (added + removed === 0) return 'Nothing differs.\n';
  const lines = [...packageLines(changes, changes.length), `paths: ${added} new, ${removed} no longer used`];
  return lines.map((line) => `${line.trimStart()}\n`).join('');
}
