// Stage build: writes the release commit, evaluates *that* commit (its ciphertexts are part of the toplevels), decides
// what has to happen to each host, and builds. Published is nothing of it.
import { readBuildSystems } from '../effects/nix-cli.ts';
import type { RekeyOutcome } from '../secrets/apply-rekey.ts';
import { SlipwayError } from '../util/errors.ts';
import { buildHosts } from './build-hosts.ts';
import type { HostResult } from './evaluate-hosts.ts';
import { evaluateRelease } from './evaluate-stage.ts';
import { type FlakeSource, formatBuildCommand } from './flake-source.ts';
import type { HostFacts, SourceHostFacts } from './host-facts.ts';
import { findBlocker, type HostPlan, planFailures, planRelease } from './plan-release.ts';
import type { ReleaseTree } from './rekey-release.ts';
import { writeReleaseCommit } from './release-commit.ts';
import { nextSerial } from './plan-manifest.ts';
import type { Discovered, RunContext } from './run-context.ts';

export interface CandidateRequest {
  readonly found: Discovered;
  /** Of the source: a host that failed there is not evaluated again. */
  readonly results: readonly HostResult<SourceHostFacts>[];
  /** `identity-needed`: secrets cannot be re-keyed here, so the source itself is built. */
  readonly rekeyed: ReleaseTree | 'identity-needed';
}

export interface Candidate {
  readonly release: FlakeSource;
  readonly tree: string;
  readonly secrets: RekeyOutcome | undefined;
  readonly results: readonly HostResult<HostFacts>[];
  /** As they came out of the build: a host whose build failed is `failed`. */
  readonly plans: readonly HostPlan[];
  readonly at: Date;
}

export async function buildCandidate(request: CandidateRequest, context: RunContext): Promise<Candidate> {
  const at = new Date();
  const { rekeyed } = request;
  const release = await openRelease(request, at, context);
  const results = await evaluateCandidate(request, release, context);
  const plans = await planHosts(request, results, context);
  const tree = rekeyed === 'identity-needed' ? '' : rekeyed.tree;
  const secrets = rekeyed === 'identity-needed' ? undefined : rekeyed.secrets;
  const candidate = { release, tree, secrets, results, at };
  if (context.options.goal === 'plan') return { ...candidate, plans };
  return { ...candidate, plans: await build(request, plans, context) };
}

async function openRelease(
  { found, rekeyed }: CandidateRequest,
  at: Date,
  { mirror, source, run, rollback, options }: RunContext,
): Promise<FlakeSource> {
  if (rekeyed === 'identity-needed') return source;
  const before = found.previous?.manifest;
  return await writeReleaseCommit({
    mirror,
    tree: rekeyed.tree,
    source: source.commit,
    previous: before?.commit,
    base: found.base?.manifest.commit,
    history: found.fleet.config.release.history,
    rollback,
    signing: options.commitSigning,
    serial: nextSerial(found),
    run,
    at,
  });
}

async function evaluateCandidate(
  { results }: CandidateRequest,
  release: FlakeSource,
  context: RunContext,
): Promise<HostResult<HostFacts>[]> {
  const alive = results.flatMap((result) => (result.ok ? [result.host] : []));
  const failed = results.filter((result) => !result.ok);
  return [...failed, ...(await evaluateRelease(release, alive, context))].toSorted((a, b) =>
    a.host < b.host ? -1 : 1,
  );
}

async function planHosts(
  { found }: CandidateRequest,
  results: readonly HostResult<HostFacts>[],
  context: RunContext,
): Promise<HostPlan[]> {
  const systems = await findSystems(results, context);
  const { hosts } = found.fleet;
  const plans = planRelease({ hosts, results, previous: found.previous?.manifest, systems });
  assertGoesOn(plans, found);
  for (const plan of plans) {
    if (plan.kind !== 'unchanged') continue;
    context.recorder.emit({
      kind: 'host',
      host: plan.host,
      phase: 'unchanged',
      toplevel: plan.facts.outPath,
    });
  }
  return plans;
}

async function build(
  { found }: CandidateRequest,
  plans: readonly HostPlan[],
  context: RunContext,
): Promise<HostPlan[]> {
  const { options, source, recorder } = context;
  const reproduce = (host: string): string =>
    formatBuildCommand(options.source.url, options.sourceBranch, source.commit, host);
  const before = planFailures(plans);
  const built = await buildHosts(plans, { ...context, reproduce });
  for (const [host, error] of planFailures(built)) {
    if (before.has(host)) continue;
    const note = error.message.split('\n', 1)[0] ?? '';
    recorder.emit({ kind: 'host', host, phase: 'failed', note });
    recorder.problem(error, { stage: 'build', host });
  }
  assertGoesOn(built, found);
  return built;
}

/** A required host that cannot be had stops the release, and so does a release without a single host. */
function assertGoesOn(plans: readonly HostPlan[], { fleet }: Discovered): void {
  const blocker = findBlocker(plans, fleet.hosts);
  if (blocker) throw blocker;
  const [first] = planFailures(plans);
  if (first === undefined || plans.some((plan) => plan.kind !== 'failed')) return;
  const [host, error] = first;
  throw new SlipwayError(
    error.code,
    `No host is left to release. ${host}: ${error.message.split('\n', 1)[0] ?? ''}`,
    {
      ...(error.next !== undefined && { next: error.next }),
      cause: error,
    },
  );
}

/** Nix is asked only when some host is not of this machine's own kind. */
async function findSystems(
  results: readonly HostResult<HostFacts>[],
  { nix, signal, recorder }: RunContext,
): Promise<ReadonlySet<string>> {
  const own = process.arch === 'arm64' ? 'aarch64-linux' : 'x86_64-linux';
  if (results.every((result) => !result.ok || result.value.system === own)) return new Set([own]);
  return await recorder.outside('nix-evaluate', async () => await readBuildSystems(nix, signal));
}
