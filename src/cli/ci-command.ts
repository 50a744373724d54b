// `slipway ci run|eval|build`: the pipeline from the command line, the same on a laptop and in any forge's CI.
import type { Command } from 'commander';
import { sshDeployer } from '../pipeline/deploy-hosts.ts';
import { refuseRun, runPipeline } from '../pipeline/run.ts';
import type { RunGoal, RunOptions, RunResult } from '../pipeline/run-options.ts';
import type { CliIo } from './cli-io.ts';
import { exitCodeOf, showRun } from './run-report.ts';
import {
  addReleaseOptions,
  addSecretOptions,
  addSourceOptions,
  readRunOptions,
  type RunFlags,
} from './run-settings.ts';

export function registerCi(program: Command, io: CliIo): void {
  const ci = program.command('ci').description('Evaluate, re-key, build, cache, publish and deploy a fleet');
  ci.addHelpText(
    'after',
    '\nExample:\n  slipway ci run --signing-key release.key --rekey-identity rekey.key',
  );
  addReleaseOptions(addSecretOptions(addSourceOptions(ci.command('run'))))
    .description('Make a release of the source branch and bring it to the hosts')
    .addHelpText(
      'after',
      '\nExample:\n  slipway ci run --repository https://forge.example.org/me/fleet.git --signing-key release.key',
    )
    .action(
      async (flags: RunFlags) => await runCommand(io, flags, flags.deploy === false ? 'publish' : 'deploy'),
    );
  addSourceOptions(ci.command('eval'))
    .description('Evaluate every host, each in a process of its own')
    .addHelpText('after', '\nExample:\n  slipway ci eval --json')
    .action(async (flags: RunFlags) => await runCommand(io, flags, 'evaluate'));
  addSecretOptions(addSourceOptions(ci.command('build')))
    .description('Build what the release would change; publish nothing')
    .addHelpText('after', '\nExample:\n  slipway ci build --repository .')
    .action(async (flags: RunFlags) => await runCommand(io, flags, 'build'));
}

export function registerPlan(program: Command, io: CliIo): void {
  addSecretOptions(addSourceOptions(program.command('plan')))
    .description('Say what a release would change; build and publish nothing')
    .addHelpText('after', '\nExample:\n  slipway plan')
    .action(async (flags: RunFlags) => await runCommand(io, flags, 'plan'));
}

async function runCommand(io: CliIo, flags: RunFlags, goal: RunGoal): Promise<void> {
  const emit = showRun(io, { json: flags.json === true, logs: flags.logs === true });
  const run = async (options: RunOptions): Promise<RunResult> =>
    await runPipeline({ ...options, deployer: sshDeployer }, emit, io.signal);
  const refuse = async (error: unknown): Promise<RunResult> => await refuseRun(error, emit);
  const result = await readRunOptions(flags, goal, io).then(run, refuse);
  process.exitCode = exitCodeOf(result);
}
