// What has to happen to each host, decided from facts alone: unchanged since the last release, to be built here,
// deferred to the target because this machine cannot build its system, or failed.
import type { HostConfig } from '../api/fleet-config.ts';
import type { ManifestHost, ReleaseManifest } from '../api/manifest.ts';
import { SlipwayError } from '../util/errors.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { ToplevelFacts } from './host-facts.ts';

export type HostPlan =
  | {
      readonly kind: 'unchanged';
      readonly host: string;
      readonly facts: ToplevelFacts;
      readonly state: 'built' | 'deferred';
    }
  | { readonly kind: 'build'; readonly host: string; readonly facts: ToplevelFacts }
  | { readonly kind: 'deferred'; readonly host: string; readonly facts: ToplevelFacts }
  | { readonly kind: 'failed'; readonly host: string; readonly error: SlipwayError };

export interface ReleaseFacts {
  readonly hosts: ReadonlyMap<string, HostConfig>;
  readonly results: readonly HostResult<ToplevelFacts>[];
  readonly previous: ReleaseManifest | undefined;
  /** Systems that this machine (with its builders) can build. */
  readonly systems: ReadonlySet<string>;
}

/** One plan a host, in the order of the results. */
export function planRelease(facts: ReleaseFacts): HostPlan[] {
  return facts.results.map((result) => planHost(facts, result));
}

function planHost(facts: ReleaseFacts, result: HostResult<ToplevelFacts>): HostPlan {
  const { host } = result;
  if (!result.ok) return { kind: 'failed', host, error: result.error };
  const native = facts.systems.has(result.value.system);
  const state = unchangedState(facts.previous?.hosts[host], result.value, native);
  if (state !== undefined) return { kind: 'unchanged', host, facts: result.value, state };
  if (native) return { kind: 'build', host, facts: result.value };
  return { kind: 'deferred', host, facts: result.value };
}

/** A carried-over (`kept`) toplevel was built once; whether it was deferred then is not recorded, so look again. */
function unchangedState(
  before: ManifestHost | undefined,
  now: ToplevelFacts,
  native: boolean,
): 'built' | 'deferred' | undefined {
  if (before?.toplevel !== now.outPath) return undefined;
  if (before.state === 'built') return 'built';
  return before.state === 'deferred' && !native ? 'deferred' : undefined;
}

/** The failure that must stop the release: a required host that cannot be had here; else undefined. */
export function findBlocker(
  plans: readonly HostPlan[],
  hosts: ReadonlyMap<string, HostConfig>,
): SlipwayError | undefined {
  for (const plan of plans) {
    if (hosts.get(plan.host)?.required !== true) continue;
    if (plan.kind === 'failed') return required(plan.host, plan.error);
    if (plan.kind === 'deferred') return required(plan.host, foreign(plan.facts.system));
  }
  return undefined;
}

/** The same question right after the source's evaluation, when only failures are known. */
export function requiredFailure(
  results: readonly HostResult<unknown>[],
  hosts: ReadonlyMap<string, HostConfig>,
): SlipwayError | undefined {
  for (const result of results) {
    if (!result.ok && hosts.get(result.host)?.required === true) return required(result.host, result.error);
  }
  return undefined;
}

export function planFailures(plans: readonly HostPlan[]): Map<string, SlipwayError> {
  return new Map(plans.flatMap((plan) => (plan.kind === 'failed' ? [[plan.host, plan.error] as const] : [])));
}

/** `2 new (pi1, web1), 1 unchanged, 1 failed (forge1)`. */
export function describePlans(plans: readonly HostPlan[]): string {
  const of = (kind: HostPlan['kind']): string[] =>
    plans.filter((plan) => plan.kind === kind).map((plan) => plan.host);
  const unchanged = of('unchanged').length;
  const parts = [
    ...named(of('build'), 'new'),
    ...named(of('deferred'), 'deferred to the host'),
    ...(unchanged > 0 ? [`${unchanged} unchanged`] : []),
    ...named(of('failed'), 'failed'),
  ];
  return parts.join(', ');
}

function named(hosts: readonly string[], what: string): string[] {
  if (hosts.length === 0) return [];
  const shown = hosts.slice(0, 8).join(', ') + (hosts.length > 8 ? ', …' : '');
  return [`${hosts.length} ${what} (${shown})`];
}

function required(host: string, error: SlipwayError): SlipwayError {
  return new SlipwayError(error.code, `The required host ${host} stops the release: ${error.message}`, {
    ...(error.next !== undefined && { next: error.next }),
    cause: error,
    facts: { ...error.facts, host },
  });
}

function foreign(system: string): SlipwayError {
  return new SlipwayError('build_failed', `this machine cannot build ${system}.`, {
    next: `Add a remote builder or binfmt emulation for ${system}, or set required = false so that the host builds it itself.`,
    facts: { system },
  });
}
