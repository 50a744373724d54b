// The options of `slipway deploy`: its own, and deploy-rs' under their own names, which stand over a deploy-rs flake.
import type { Command } from 'commander';
import { deployRsGeneric } from '../api/deploy-rs.ts';
import { formatIssue } from '../api/issue-text.ts';
import type { DeployRequest } from '../deploy/deploy-request.ts';
import type { DeployRsOverrides } from '../deploy/plan-from-deploy-rs.ts';
import { amountOf, parseAmount, parseWaves, type WaveStep } from '../deploy/rollout-plan.ts';
import type { RolloutPolicy } from '../deploy/run-rollout.ts';
import type { HostAddress } from '../effects/host.ts';
import { parseSshTarget } from '../effects/ssh-target.ts';
import { SlipwayError } from '../util/errors.ts';
import type { HostOptions } from './host-options.ts';

export interface DeployOptions extends HostOptions {
  readonly toplevel?: string;
  readonly dryRun?: boolean;
  readonly dryActivate?: boolean;
  readonly force?: boolean;
  readonly test?: boolean;
  readonly boot?: boolean;
  readonly reboot?: string;
  readonly confirm: boolean;
  readonly magic: boolean;
  readonly substitute?: boolean;
  readonly copy?: string;
  readonly buildOn?: string;
  readonly hooks: boolean;
  readonly confirmHost?: string;
  readonly events?: boolean;
  readonly concurrency: string;
  readonly waves?: string;
  readonly canary?: string;
  readonly maxFailures?: string;
  readonly onFailure: string;
  readonly offline: string;
  readonly confirmTimeout?: string;
  readonly activationTimeout?: string;
  readonly sshUser?: string;
  readonly profileUser?: string;
  readonly sshOpts?: string;
  readonly fastConnection?: string;
  readonly autoRollback?: string;
  readonly magicRollback?: string;
  readonly hostname?: string;
  readonly tempPath?: string;
  readonly sudo?: string;
  readonly interactiveSudo?: string;
  readonly remoteBuild?: boolean;
  readonly rollbackSucceeded?: string;
  readonly targets?: readonly string[];
}

const DEFAULT_CONCURRENCY = 10; // colmena's

export function addDeployOptions(command: Command): Command {
  return addDeployRsOptions(addManyOptions(addOneOptions(command)));
}

function addOneOptions(command: Command): Command {
  return command
    .option('--toplevel <path>', 'deploy this store path instead of building it (one host)')
    .option('--dry-run', 'show what would happen; nothing is changed or copied')
    .option('--dry-activate', 'copy, then show what would happen to each unit; nothing is activated')
    .option('--test', 'run it until the next boot; nothing becomes permanent')
    .option('--boot', 'make it the boot default without running it now')
    .option('--reboot <when>', 'for a new kernel and the like: when-needed, later (switch live now) or never')
    .option('--force', 'also a quarantined system, or one made for another host name')
    .option('--no-magic', 'do not ask for the confirmation over a fresh connection')
    .option('--no-confirm', 'the same')
    .option('--confirm-host <address>', 'where the new system is to answer, as address or address:port')
    .option('--events', 'with --json: each event as a line too, before the result')
    .option('--no-hooks', 'run none of the hooks')
    .option('--copy <how>', 'push (default), cache (the hosts fetch it all from their caches) or both')
    .option('--substitute', 'the same as --copy both')
    .option('--build-on <where>', 'local (default) or target')
    .option('--remote-build', 'the same as --build-on target')
    .option('--confirm-timeout <seconds>', 'how long the host waits for the confirmation (default: 30)')
    .option('--activation-timeout <seconds>', 'how long the activation may take (default: 240)');
}

function addManyOptions(command: Command): Command {
  return command
    .option('--concurrency <n>', 'hosts at a time', String(DEFAULT_CONCURRENCY))
    .option('--waves <steps>', 'try some first: tag:canary,web1,10%,50% (default: the wave of each host)')
    .option('--canary <amount>', 'the same as --waves with one step: 1, 5% or tag:canary')
    .option('--max-failures <amount>', 'hosts that may fail before it stops: 2 or 5%')
    .option('--on-failure <what>', 'continue, stop (no further host) or rollback (also those done)', 'stop')
    .option('--offline <what>', 'hosts not reached: skip, defer (to the end) or fail', 'fail');
}

function addDeployRsOptions(command: Command): Command {
  return command
    .option('--ssh-user <name>', 'deploy-rs flakes: the login')
    .option('--profile-user <name>', "deploy-rs flakes: the profile's owner")
    .option('--ssh-opts <words>', 'deploy-rs flakes: words for ssh, instead of sshOpts')
    .option('--hostname <address>', "where the host answers now, instead of the flake's address")
    .option('--fast-connection <bool>', 'deploy-rs flakes: push all, let the host fetch nothing')
    .option('--auto-rollback <bool>', 'false: a system that fails its trial is left running, not permanent')
    .option('--magic-rollback <bool>', 'deploy-rs flakes: false is --no-magic')
    .option('--temp-path <path>', 'accepted for deploy-rs; nothing is put there')
    .option('--sudo <command>', 'deploy-rs flakes: how to become a user, as in "sudo -u"')
    .option('--interactive-sudo <bool>', 'deploy-rs flakes: true is --ask-sudo-password')
    .option('--rollback-succeeded <bool>', 'true is --on-failure rollback')
    .option('-s, --skip-checks', 'accepted for deploy-rs; a deploy evaluates only what it needs')
    .option('--targets <targets...>', 'deploy-rs: several FLAKE#node.profile');
}

/** What the command line says over a deploy-rs flake. */
export function deployRsOverrides(options: DeployOptions): DeployRsOverrides {
  const said = {
    sshUser: options.sshUser,
    user: options.profileUser,
    sshOpts: options.sshOpts?.split(' ').filter((word) => word !== ''),
    fastConnection: flag(options.fastConnection, '--fast-connection'),
    autoRollback: flag(options.autoRollback, '--auto-rollback'),
    magicRollback: flag(options.magicRollback, '--magic-rollback'),
    interactiveSudo: flag(options.interactiveSudo, '--interactive-sudo'),
    sudo: options.sudo,
    confirmTimeout: seconds(options.confirmTimeout, '--confirm-timeout'),
    activationTimeout: seconds(options.activationTimeout, '--activation-timeout'),
    ...(buildsOnTarget(options) && { remoteBuild: true }),
  };
  const parsed = deployRsGeneric.safeParse(said);
  if (parsed.success) return { ...parsed.data, hostname: options.hostname };
  throw new SlipwayError('invalid', `The command line is not valid: ${formatIssue(parsed.error.issues[0])}.`);
}

export function rolloutPolicy(options: DeployOptions, hosts: number): RolloutPolicy {
  const { maxFailures } = options;
  const back = flag(options.rollbackSucceeded, '--rollback-succeeded') === true;
  const budget =
    maxFailures === undefined ? undefined : amountOf(parseAmount(maxFailures, '--max-failures'), hosts);
  return {
    concurrency: positive(options.concurrency, '--concurrency'),
    maxFailures: budget,
    onFailure: back ? 'rollback' : oneOf(options.onFailure, ['continue', 'stop', 'rollback'], '--on-failure'),
    offline: oneOf(options.offline, ['skip', 'defer', 'fail'], '--offline'),
  };
}

export function waveSteps({ waves, canary }: DeployOptions): WaveStep[] {
  if (waves !== undefined) return parseWaves(waves);
  return canary === undefined ? [] : parseWaves(canary);
}

export function buildsOnTarget({ buildOn = 'local', remoteBuild = false }: DeployOptions): boolean {
  return remoteBuild || oneOf(buildOn, ['local', 'target'], '--build-on') === 'target';
}

export function copySource({ copy, substitute }: DeployOptions): Exclude<DeployRequest['source'], undefined> {
  const how = oneOf(copy ?? (substitute === true ? 'both' : 'push'), ['push', 'cache', 'both'], '--copy');
  return ({ push: 'push', cache: 'substitute', both: 'push-and-substitute' } as const)[how];
}

/** Where a host that moves is confirmed: only where the command line says, else also where the fleet will look for it. */
export function confirmationOf(
  { confirmHost }: DeployOptions,
  moved: HostAddress | undefined,
): DeployRequest['confirmAt'] {
  if (confirmHost === undefined) return moved === undefined ? undefined : { ...moved, only: false };
  const { address, port } = parseSshTarget(confirmHost);
  return { address, port: /:\d+$/.test(confirmHost) ? port : undefined, only: true };
}

export function seconds(text: string | undefined, option: string): number | undefined {
  return text === undefined ? undefined : positive(text, option);
}

export function flag(text: string | undefined, option: string): boolean | undefined {
  if (text === undefined) return undefined;
  return oneOf(text, ['true', 'false'], option) === 'true';
}

function positive(text: string, option: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new SlipwayError('invalid', `${option} needs a positive whole number, not "${text}".`);
}

function oneOf<W extends string>(text: string, words: readonly W[], option: string): W {
  const found = words.find((word) => word === text);
  if (found !== undefined) return found;
  throw new SlipwayError('invalid', `${option} is ${words.join(', ')}, not "${text}".`);
}
