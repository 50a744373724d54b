// `slipway status HOST…`: what runs on hosts, asked of the hosts themselves over ssh.
import type { Command } from 'commander';
import type { DeployState } from '../api/deploy-state.ts';
import { type DeployHostFacts, readHostFacts } from '../deploy/host-facts.ts';
import { listTrials, type QuarantineEntry, readQuarantine } from '../deploy/trial.ts';
import { mapBounded } from '../util/concurrency.ts';
import { asSlipwayError, type SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { failureJson } from './failure.ts';
import {
  addHostOptions,
  chooseHosts,
  type ChosenHost,
  type HostOptions,
  openChosenHost,
} from './host-options.ts';
import { makeStyle } from './style.ts';

type HostStatus =
  | {
      readonly host: string;
      readonly facts: DeployHostFacts;
      readonly last: DeployState | undefined;
      readonly quarantine: readonly QuarantineEntry[];
    }
  | { readonly host: string; readonly error: SlipwayError };

const CONCURRENCY = 10;

export function registerStatus(program: Command, io: CliIo): void {
  const command = program
    .command('status')
    .description('Show what runs on hosts')
    .argument('[hosts...]', 'names of hosts, or REF#host; default: all push-mode hosts');
  addHostOptions(command)
    .addHelpText('after', '\nExample:\n  slipway status web1')
    .action(async (names: string[], options: HostOptions) => {
      const chosen = await chooseHosts(names, options, io);
      const all = await mapBounded(chosen, CONCURRENCY, async (host) => await readStatus(host, options, io));
      if (options.json === true) io.stdout(`${JSON.stringify({ hosts: all.map(statusJson) })}\n`);
      else for (const status of all) io.stdout(render(io, status));
    });
}

async function readStatus(chosen: ChosenHost, options: HostOptions, io: CliIo): Promise<HostStatus> {
  try {
    await using host = await openChosenHost(chosen, options, io);
    const [facts, trials, quarantine] = await Promise.all([
      readHostFacts(host),
      listTrials(host),
      readQuarantine(host),
    ]);
    return { host: chosen.name, facts, last: trials[0], quarantine };
  } catch (error) {
    io.signal.throwIfAborted();
    return { host: chosen.name, error: asSlipwayError(error) };
  }
}

function statusJson(status: HostStatus): Record<string, unknown> {
  return 'error' in status ? { host: status.host, error: failureJson(status.error) } : { ...status };
}

function render(io: CliIo, status: HostStatus): string {
  const style = makeStyle(io.color);
  const name = style.bold(status.host);
  if ('error' in status) return `${name}  ${style.bad(status.error.message)}\n`;
  const { facts, last, quarantine } = status;
  const lines = [`${name}  generation ${facts.generation}  ${facts.current}`];
  if (facts.profile !== facts.current)
    lines.push(style.warn(`  the profile, and what boots next, is ${facts.profile || 'not set'}`));
  if (facts.booted !== facts.current) lines.push(style.dim(`  booted ${facts.booted}`));
  if (facts.bootProtection === 'none')
    lines.push(style.dim(`  no boot-level protection: ${facts.noBootProtection}`));
  if (last) lines.push(`  last deploy: ${last.phase} ${last.reason} ${last.detail}`.trimEnd());
  for (const entry of quarantine)
    lines.push(style.warn(`  quarantined: ${entry.toplevel} (${entry.reason}, ${entry.at})`));
  return lines.map((line) => `${line}\n`).join('');
}
