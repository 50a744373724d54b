// `slipway up`: everything on one machine. The server part starts no process; beside it, in the same program, a poller
// looks at each repository's branch and a worker runs the pipeline in a child process.
import type { Command } from 'commander';
import type { RepositoryConfig, ServerConfig } from '../api/server-config.ts';
import { parseGitRemote, type GitRemote } from '../effects/git-remote.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { Semaphore } from '../util/concurrency.ts';
import { pollBranch } from './branch-poller.ts';
import type { CliIo } from './cli-io.ts';
import { openControlPlane, type ControlPlane } from './control-plane.ts';
import { workOnRuns } from './run-worker.ts';
import { ServerReport } from './server-report.ts';
import {
  addRepositoryOptions,
  addServerOptions,
  readServerSettings,
  type ServerFlags,
} from './server-settings.ts';
import { untilAborted } from './until-aborted.ts';

export function registerUp(program: Command, io: CliIo): void {
  addRepositoryOptions(addServerOptions(program.command('up')))
    .description('Run everything on this machine: cache, webhooks, poller, pipeline, status page')
    .addHelpText(
      'after',
      '\nExample:\n  slipway up --data ./slipway --repository https://forge.example.org/me/fleet.git',
    )
    .action(async (flags: ServerFlags) => await up(flags, io));
}

async function up(flags: ServerFlags, io: CliIo): Promise<void> {
  const config = await readServerSettings(flags, io);
  const report = new ServerReport(io, flags.json === true);
  const remotes = new Map(config.repositories.map((one) => [one.name, remoteOf(one)]));
  await using plane = await openControlPlane(config, report.error);
  report.listening(plane, config);
  const places = new Semaphore(config.parallelRuns);
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const work = config.repositories.flatMap((repository) => {
    const remote = remotes.get(repository.name);
    return remote ? startWork({ plane, repository, remote, places, config, report, signal }) : [];
  });
  try {
    await Promise.race([untilAborted(signal), ...work]);
    report.stopping();
  } finally {
    stop.abort(); // also when one part failed: the others must not go on without it
    await Promise.allSettled(work);
  }
}

interface WorkParts {
  readonly config: ServerConfig;
  readonly plane: ControlPlane;
  readonly repository: RepositoryConfig;
  readonly remote: GitRemote;
  readonly places: Semaphore;
  readonly report: ServerReport;
  readonly signal: AbortSignal;
}

function startWork(parts: WorkParts): Promise<void>[] {
  const { config, plane, repository, remote, places, report, signal } = parts;
  return [
    workOnRuns({
      plane,
      repository,
      places,
      timeoutMs: config.runTimeout * 1000,
      signal,
      onRun: (run, outcome) => report.run(run, outcome),
      onError: report.error,
    }),
    pollBranch({ fleet: plane.fleet, repository, remote, signal }),
  ];
}

function remoteOf(repository: RepositoryConfig): GitRemote {
  const { url, credentials, sshKey } = repository;
  return parseGitRemote(url, {
    ...(credentials !== undefined && { readToken: async () => await readSecretReference(credentials) }),
    ...(sshKey !== undefined && { sshKeyFile: sshKey }),
  });
}
