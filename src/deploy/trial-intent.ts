// The files that a driver writes for one trial, as text: intent.json and checks. Pure; host/lib/state.sh and
// host/lib/checks.sh read them.
import { createHash } from 'node:crypto';
import { deployIntent, type DeployIntent } from '../api/deploy-state.ts';
import type { HealthConfig } from '../api/fleet-config.ts';
import { NO_HOOKS } from '../api/deploy-hooks.ts';
import { DEFAULT_TIMEOUTS, type DeployRequest } from './deploy-request.ts';
import { longestHooks } from './hook-plan.ts';

export interface TrialFacts {
  readonly id: string;
  readonly host: string;
  readonly origin: 'push' | 'pull';
  /** The one-time confirmation token; undefined: none. */
  readonly token: string | undefined;
  readonly now: Date;
}

export function planIntent(request: DeployRequest, facts: TrialFacts): DeployIntent {
  const timeouts = { ...DEFAULT_TIMEOUTS, ...request.timeouts };
  return deployIntent.parse({
    version: 1,
    id: facts.id,
    host: facts.host,
    toplevel: request.toplevel,
    origin: facts.origin,
    release: request.release,
    tokenHash: facts.token === undefined ? '' : createHash('sha256').update(facts.token).digest('hex'),
    generation: request.generation ?? 0,
    operation: request.operation ?? 'trial',
    autoRollback: request.autoRollback === false ? 'no' : 'yes',
    profile: request.profile?.profile ?? '',
    user: request.profile?.user ?? 'root',
    lockTimeout: timeouts.lock,
    activationTimeout: timeouts.activation,
    healthTimeout: request.health.timeout,
    healthStable: request.health.stable,
    confirmTimeout: timeouts.confirm,
    commitTimeout: timeouts.commit,
    rollbackTimeout: timeouts.rollback,
    hookTimeout: longestHooks(request.hooks ?? NO_HOOKS),
    bootTimeout: timeouts.boot,
    createdAt: facts.now.toISOString(),
  });
}

/** One key a line. */
export function formatIntent(intent: DeployIntent): string {
  return `${JSON.stringify(intent, undefined, 2)}\n`;
}

/** One check a line: `unit NAME`, `tcp HOST PORT`, `http STATUS URL`, `command LINE`. */
export function formatChecks(health: HealthConfig): string {
  return [
    ...health.units.map((unit) => `unit ${unit}`),
    ...health.tcp.map(({ host, port }) => `tcp ${host} ${port}`),
    ...health.http.map(({ url, status }) => `http ${status} ${url}`),
    ...health.commands.map((command) => `command ${command}`),
  ]
    .map((line) => `${line}\n`)
    .join('');
}

/** Seconds after which the host has ended the trial one way or the other, whatever happens. */
export function longestTrial(intent: DeployIntent): number {
  const waits = intent.lockTimeout * 3 + intent.healthTimeout * 2 + intent.confirmTimeout;
  // To the new system, and back from it.
  const boots = intent.operation === 'boot-trial' ? intent.bootTimeout * 2 : 0;
  return (
    waits +
    boots +
    intent.activationTimeout +
    intent.commitTimeout * 2 +
    intent.rollbackTimeout * 2 +
    intent.hookTimeout +
    60
  );
}
