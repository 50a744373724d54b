// `slipway agent …`: the process that brings releases to its own host, and how an operator on that host speaks to it.
// Each action loads what it needs and no more: the running agent has to fit on a small machine.
import type { Command } from 'commander';
import type { AgentConfig } from '../api/agent-config.ts';
import type { AgentRequest } from '../agent/control-files.ts';
import type { CliIo } from './cli-io.ts';

interface Common {
  readonly config: string;
  readonly json?: boolean;
}

const CONFIG_FILE = '/etc/slipway/agent.toml';
const DEFAULT_WAIT = '10m';

export function registerAgent(program: Command, io: CliIo): void {
  const agent = program
    .command('agent')
    .description('Bring releases to this host: poll, verify, try, keep or roll back')
    .addHelpText('after', '\nExample:\n  slipway agent status');
  registerRun(agent, io);
  registerStatus(agent, io);
  registerRequests(agent, io);
  registerSuspension(agent, io);
}

function registerRun(agent: Command, io: CliIo): void {
  withConfig(agent.command('run'))
    .description('Run the agent in the foreground; systemd starts it so')
    .option('--once', 'poll and act once, then end')
    .addHelpText('after', '\nExample:\n  slipway agent run --config /etc/slipway/agent.toml')
    .action(async (options: Common & { once?: boolean }) => {
      const config = await loadConfig(options);
      const [{ runAgent }, { makeJournalLog }, { openLocalHost }] = await Promise.all([
        import('../agent/run-agent.ts'),
        import('../agent/journal-log.ts'),
        import('../effects/local-host.ts'),
      ]);
      await runAgent({
        config,
        host: openLocalHost(config.host),
        log: makeJournalLog(io.stdout, !io.terminal),
        signal: io.signal,
        once: options.once === true,
      });
    });
}

function registerStatus(agent: Command, io: CliIo): void {
  withConfig(agent.command('status'))
    .description('What this host runs, what the release wants of it, and what the agent does about it')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  slipway agent status --json')
    .action(async (options: Common) => {
      const config = await loadConfig(options);
      await printOverview(io, config, options.json === true);
    });
}

function registerRequests(agent: Command, io: CliIo): void {
  withWait(agent.command('sync'))
    .description('Poll the remotes now, and act on what they have')
    .addHelpText('after', '\nExample:\n  slipway agent sync')
    .action(async (options: WaitOptions) => await ask(io, options, { kind: 'sync' }));
  withWait(agent.command('retry'))
    .argument('[toplevel]', 'only this one; default: all that are quarantined')
    .description('Take a quarantined toplevel out of quarantine and try it again')
    .addHelpText('after', '\nExample:\n  slipway agent retry')
    .action(async (toplevel: string | undefined, options: WaitOptions) => {
      await ask(io, options, toplevel === undefined ? { kind: 'retry' } : { kind: 'retry', toplevel });
    });
  withWait(agent.command('accept'))
    .argument('<commit>', 'the release commit, in full')
    .description('Take this release although the history of its branch was rewritten')
    .addHelpText('after', '\nExample:\n  slipway agent accept 4c1d…')
    .action(
      async (commit: string, options: WaitOptions) => await ask(io, options, { kind: 'accept', commit }),
    );
}

function registerSuspension(agent: Command, io: CliIo): void {
  withConfig(agent.command('suspend'))
    .requiredOption('--reason <text>', 'why: shown to everyone who wonders')
    .option('--for <duration>', 'resume by itself after this time (90s, 15m, 2h, 3d)', '2h')
    .option('--json', 'print one JSON object')
    .description('Take no release for a while; a trial under way is finished')
    .addHelpText('after', '\nExample:\n  slipway agent suspend --for 2h --reason "debugging nginx"')
    .action(async (options: Common & { reason: string; for: string }) => {
      const { suspendAgent } = await import('./agent-control.ts');
      const config = await loadConfig(options);
      const line = await suspendAgent(config.stateDir, options, io.env);
      io.stdout(options.json === true ? `${JSON.stringify({ ok: true, ...line })}\n` : `${line.text}\n`);
    });
  withConfig(agent.command('resume'))
    .option('--json', 'print one JSON object')
    .description('Take releases again')
    .addHelpText('after', '\nExample:\n  slipway agent resume')
    .action(async (options: Common) => {
      const { resumeAgent } = await import('./agent-control.ts');
      const config = await loadConfig(options);
      const text = await resumeAgent(config.stateDir);
      io.stdout(options.json === true ? `${JSON.stringify({ ok: true, text })}\n` : `${text}\n`);
    });
}

interface WaitOptions extends Common {
  readonly wait: boolean;
  readonly timeout: string;
}

function withConfig(command: Command): Command {
  return command.option('--config <file>', "the agent's configuration", CONFIG_FILE);
}

function withWait(command: Command): Command {
  return withConfig(command)
    .option('--no-wait', 'do not wait until the agent has acted')
    .option('--timeout <duration>', 'how long to wait', DEFAULT_WAIT)
    .option('--json', 'print one JSON object');
}

async function loadConfig(options: Common): Promise<AgentConfig> {
  const { readAgentConfig } = await import('../agent/read-agent-config.ts');
  return await readAgentConfig(options.config);
}

async function ask(io: CliIo, options: WaitOptions, request: AgentRequest): Promise<void> {
  const config = await loadConfig(options);
  const { askAgent } = await import('./agent-control.ts');
  const answered = await askAgent(config.stateDir, request, {
    waitSeconds: options.wait ? options.timeout : undefined,
    signal: io.signal,
  });
  if (answered) return await printOverview(io, config, options.json === true);
  io.stdout(options.json === true ? `${JSON.stringify({ ok: true, answered })}\n` : 'The agent was told.\n');
}

async function printOverview(io: CliIo, config: AgentConfig, json: boolean): Promise<void> {
  const [{ readAgentOverview }, { formatOverview }] = await Promise.all([
    import('../agent/agent-overview.ts'),
    import('./agent-status-text.ts'),
  ]);
  const overview = await readAgentOverview(config.host, config.stateDir);
  io.stdout(json ? `${JSON.stringify(overview)}\n` : formatOverview(overview, io.color));
}
