// `slipway serve`: the server alone: caches, webhooks, API, status page. Runs that it queues wait for a runner.
import type { Command } from 'commander';
import type { CliIo } from './cli-io.ts';
import { openControlPlane } from './control-plane.ts';
import { ServerReport } from './server-report.ts';
import { addServerOptions, readServerSettings, type ServerFlags } from './server-settings.ts';
import { untilAborted } from './until-aborted.ts';

export function registerServe(program: Command, io: CliIo): void {
  addServerOptions(program.command('serve'))
    .description('Serve caches, webhooks, API and status page; start no process')
    .addHelpText('after', '\nExample:\n  slipway serve --config /etc/slipway/server.toml')
    .action(async (flags: ServerFlags) => await serve(flags, io));
}

async function serve(flags: ServerFlags, io: CliIo): Promise<void> {
  const config = await readServerSettings(flags, io);
  const report = new ServerReport(io, flags.json === true);
  await using plane = await openControlPlane(config, report.error);
  report.listening(plane, config);
  await untilAborted(io.signal);
  report.stopping();
}
