// Builds the toplevels of all hosts that changed in one Nix process (shared dependencies build once), goes on past
// failures, and then asks the store which outputs are there: exit codes and events cannot tell.
import type { RunEventBody } from '../api/run-events.ts';
import {
  findBuildLog,
  findInvalidPaths,
  type Nix,
  readRequisites,
  rootPaths,
  realisePaths,
} from '../effects/nix-cli.ts';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import { BuildLog, derivationName } from './build-log.ts';
import type { HostPlan } from './plan-release.ts';
import type { RunRecorder } from './run-recorder.ts';
import type { ToplevelFacts } from './host-facts.ts';

export interface HostBuild {
  readonly host: string;
  readonly facts: ToplevelFacts;
}

export interface BuildContext {
  readonly nix: Nix;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
  /** A new folder for links that keep what was built from the garbage collector until hosts have it. */
  readonly rootsFolder: string;
  /** The command that repeats a host's build elsewhere. */
  readonly reproduce: (host: string) => string;
}

const SHOWN_LINES = 25;

/** Builds what the plans say, and tries the caches for what this machine cannot build. Returns the plans as they came out. */
export async function buildHosts(plans: readonly HostPlan[], context: BuildContext): Promise<HostPlan[]> {
  const builds = plans.filter((plan) => plan.kind === 'build');
  const failures = await buildAll(builds, context);
  const fetched = await substitute(
    plans.filter((plan) => plan.kind === 'deferred'),
    context,
  );
  if (builds.length > failures.size || fetched.size > 0) await keep(plans, context);
  return plans.map((plan) => {
    const error = failures.get(plan.host);
    if (error !== undefined) return { kind: 'failed', host: plan.host, error };
    return plan.kind === 'deferred' && fetched.has(plan.host) ? { ...plan, kind: 'build' } : plan;
  });
}

async function buildAll(
  builds: readonly HostBuild[],
  context: BuildContext,
): Promise<Map<string, SlipwayError>> {
  const { recorder } = context;
  const absent = await selectInvalid(builds, context);
  for (const build of builds) {
    if (absent.includes(build)) recorder.emit(hostEvent(build, 'building'));
    else recorder.emit(hostEvent(build, 'built', 'already in the store'));
  }
  if (absent.length === 0) return new Map();
  const log = newBuildLog(absent, context);
  const started = performance.now();
  await realise(
    absent.map(({ facts }) => facts.drvPath),
    log,
    context,
  );
  const failed = await selectInvalid(absent, context);
  const ms = performance.now() - started;
  for (const build of absent)
    if (!failed.includes(build)) recorder.emit({ ...hostEvent(build, 'built'), ms });
  return await explainFailures(failed, log, context);
}

/** Roots for the whole release, as far as this store has it: unchanged hosts' toplevels would go otherwise. */
async function keep(plans: readonly HostPlan[], context: BuildContext): Promise<void> {
  const { nix, rootsFolder, signal, recorder } = context;
  const wanted = plans.filter((plan) => plan.kind !== 'failed');
  const absent = await selectInvalid(wanted, context);
  const paths = wanted.filter((plan) => !absent.includes(plan)).map(({ facts }) => facts.outPath);
  if (paths.length === 0) return;
  await mkdir(rootsFolder, { recursive: true });
  const prefix = join(rootsFolder, 'toplevel');
  await recorder.outside('nix-build', async () => await rootPaths(nix, [...new Set(paths)], prefix, signal));
}

/** A foreign system's toplevel may be in a cache already, for instance because the host itself pushed it. */
async function substitute(deferred: readonly HostBuild[], context: BuildContext): Promise<Set<string>> {
  let absent = await selectInvalid(deferred, context);
  if (absent.length > 0) {
    const log = new BuildLog({ onLine: () => undefined, onStart: () => undefined });
    await realise(
      absent.map(({ facts }) => facts.outPath),
      log,
      context,
    );
    absent = await selectInvalid(absent, context);
  }
  for (const build of absent) {
    const note = `${build.facts.system} cannot be built here; the host builds it itself`;
    context.recorder.emit(hostEvent(build, 'deferred', note));
  }
  const present = deferred.filter((build) => !absent.includes(build));
  for (const build of present) context.recorder.emit(hostEvent(build, 'built', 'from a cache'));
  return new Set(present.map(({ host }) => host));
}

async function selectInvalid(builds: readonly HostBuild[], context: BuildContext): Promise<HostBuild[]> {
  if (builds.length === 0) return [];
  const paths = builds.map(({ facts }) => facts.outPath);
  const invalid = await context.recorder.outside(
    'nix-build',
    async () => await findInvalidPaths(context.nix, paths, context.signal),
  );
  return builds.filter(({ facts }) => invalid.has(facts.outPath));
}

async function realise(paths: readonly string[], log: BuildLog, context: BuildContext): Promise<void> {
  const { nix, signal, recorder } = context;
  const options = { signal, onLine: log.take };
  await recorder.outside('nix-build', async () => await realisePaths(nix, [...new Set(paths)], options));
}

function newBuildLog(builds: readonly HostBuild[], { recorder }: BuildContext): BuildLog {
  const hosts = new Map(builds.map(({ host, facts }) => [facts.drvPath, host]));
  return new BuildLog({
    onStart: (drvPath) =>
      recorder.emit({ kind: 'log', stage: 'build', line: `building ${derivationName(drvPath)}` }),
    onLine: (line, drvPath) => {
      const host = drvPath === undefined ? undefined : hosts.get(drvPath);
      const text = drvPath === undefined ? line : `${derivationName(drvPath)}> ${line}`;
      recorder.emit({ kind: 'log', stage: 'build', line: text, ...(host !== undefined && { host }) });
    },
  });
}

/** One failure a host: which derivation, why, its last lines (once for hosts that fail together), how to repeat it. */
async function explainFailures(
  failed: readonly HostBuild[],
  log: BuildLog,
  context: BuildContext,
): Promise<Map<string, SlipwayError>> {
  const failures = new Map<string, SlipwayError>();
  const told = new Map<string, string>();
  for (const { host, facts } of failed) {
    const culprits = await findCulprits(facts.drvPath, log, context);
    const culprit = culprits[0] ?? facts.drvPath;
    const first = told.get(culprit);
    const tail = first === undefined ? await readTail(culprit, log, context) : [];
    told.set(culprit, first ?? host);
    failures.set(host, buildFailed({ host, culprit, tail, first, log, context }));
  }
  return failures;
}

async function findCulprits(drvPath: string, log: BuildLog, context: BuildContext): Promise<string[]> {
  if (log.failures.has(drvPath)) return [drvPath];
  const needed = await readRequisites(context.nix, [drvPath], context.signal);
  return needed.filter((path) => log.failures.has(path));
}

async function readTail(drvPath: string, log: BuildLog, context: BuildContext): Promise<readonly string[]> {
  const tail = log.tail(drvPath);
  if (tail.length > 0) return tail.slice(-SHOWN_LINES);
  const kept = await findBuildLog(context.nix, drvPath, context.signal);
  return (kept ?? '').trimEnd().split('\n').slice(-SHOWN_LINES);
}

interface FailureFacts {
  readonly host: string;
  readonly culprit: string;
  readonly tail: readonly string[];
  /** The host whose report carries the log of the same derivation. */
  readonly first: string | undefined;
  readonly log: BuildLog;
  readonly context: BuildContext;
}

function buildFailed({ host, culprit, tail, first, log, context }: FailureFacts): SlipwayError {
  const reason = log.failures.get(culprit) ?? 'the build did not finish';
  const lines = tail.filter((line) => line !== '').map((line) => `  ${line}`);
  const block = first === undefined ? lines.join('\n') : `  (same derivation as ${first})`;
  const reproduce = context.reproduce(host);
  const message = `The build of ${host} failed in ${derivationName(culprit)}: ${reason}\n${block}`.trimEnd();
  return new SlipwayError('build_failed', message, {
    next: `Repeat it here with: nix-store --realise ${culprit}  or anywhere with: ${reproduce}`,
    facts: { host, derivation: culprit, log: tail, reproduce },
  });
}

function hostEvent(
  build: HostBuild,
  phase: 'building' | 'built' | 'deferred',
  note?: string,
): Extract<RunEventBody, { kind: 'host' }> {
  const toplevel = build.facts.outPath;
  return { kind: 'host', host: build.host, phase, toplevel, ...(note !== undefined && { note }) };
}
