// From a source commit to a release that stands: the stages evaluate, rekey, build, test, cache and publish.
import type { ReleaseManifest } from '../api/manifest.ts';
import { isCode, SlipwayError } from '../util/errors.ts';
import { buildCandidate, type Candidate } from './build-candidate.ts';
import type { HostResult } from './evaluate-hosts.ts';
import { discoverFleet, evaluateRelease, evaluateSource } from './evaluate-stage.ts';
import { formatFlakeUrl } from './flake-source.ts';
import type { SourceHostFacts } from './host-facts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { type CacheSetting, hasNewCache, manifestCaches, planCaches } from './plan-caches.ts';
import { nextSerial, planManifest, sameHosts } from './plan-manifest.ts';
import { describePlans, planFailures, requiredFailure } from './plan-release.ts';
import { publishRelease } from './publish-release.ts';
import { pushClosures } from './push-closures.ts';
import { describeSecrets, rekeyRelease, type ReleaseTree } from './rekey-release.ts';
import { releasePlace } from './find-target.ts';
import { assertSourceGrows, findPreviousRelease } from './release-history.ts';
import { isRolledBack } from './rollback-release.ts';
import type { Discovered, RunContext, Standing } from './run-context.ts';
import type { RunEnd } from './run-end.ts';
import { testingFleet } from './testing-fleet.ts';
import { verifySecrets } from './verify-secrets.ts';

interface Evaluated extends Discovered {
  /** Absent when the source was released before, host by host; `held` when a rollback undid it: nothing to evaluate. */
  readonly results: readonly HostResult<SourceHostFacts>[] | 'held' | undefined;
}

/** `tips` are the branches of the remote. The first attempt answers `lost-race` when somebody else published meanwhile. */
export async function makeRelease(
  context: RunContext,
  tips: ReadonlyMap<string, string>,
  attempt: 'first' | 'last',
): Promise<Standing | RunEnd | 'lost-race'> {
  const { recorder, options } = context;
  if (options.goal === 'evaluate')
    return await recorder.stage('evaluate', async () => await evaluateToplevels(context));
  const found = await recorder.stage('evaluate', async () => await evaluate(context, tips));
  const { results, previous } = found;
  if (results === 'held') return held(found, context);
  if (results === undefined && previous) return repeated(found, previous.manifest, context);
  const rekeyed = await recorder.stage(
    'rekey',
    async () => await rekey(found, results ?? [], context),
    (made) => describeSecrets(made),
  );
  if (rekeyed !== 'identity-needed' && previous?.manifest.tree === rekeyed.tree) {
    if (isComplete(previous.manifest, found)) return sameContent(found, previous.manifest, context);
  }
  const candidate = await recorder.stage('build', async () => {
    const request = { found, results: results ?? [], rekeyed };
    return await buildCandidate(request, context);
  });
  if (options.goal === 'plan' || options.goal === 'build') return endBeforePublishing(candidate, context);
  await verify(found, candidate, context);
  return await publish(found, candidate, { context, attempt });
}

async function evaluate(context: RunContext, tips: ReadonlyMap<string, string>): Promise<Evaluated> {
  const { source, options, key, recorder } = context;
  recorder.emit({ kind: 'log', stage: 'evaluate', line: formatFlakeUrl(source) });
  const whole = await discoverFleet(source, context);
  const fleet = options.testing === undefined ? whole : testingFleet(whole, options.testing);
  const caches = key ? cachesOf(fleet, context) : []; // complains before work is done
  const previous = await findPreviousRelease(releasePlace(fleet, context), tips);
  const base = fleet === whole ? previous : await findPreviousRelease(releasePlace(whole, context), tips);
  const found = { fleet, previous, base, caches };
  if (await isHeld(found, context)) return { ...found, results: 'held' };
  if (previous && isRepeat(previous.manifest, found, context)) return { ...found, results: undefined };
  const results = await evaluateSource(source, [...fleet.hosts.keys()], context);
  assertSomeHost(results, found);
  return { ...found, results };
}

/** Refuses a source that is not newer than the last one; true when it is one that was rolled back. */
async function isHeld({ previous }: Discovered, context: RunContext): Promise<boolean> {
  const { key, mirror, options, source, rollback } = context;
  const onPurpose = options.allowRollback === true || options.testing !== undefined || rollback !== undefined;
  if (key === undefined || onPurpose) return false;
  if (await isRolledBack(mirror, previous, source.commit)) return true;
  await assertSourceGrows(mirror, previous, source.commit);
  return false;
}

/** `ci eval`: the source's toplevels as they are; nothing is re-keyed, nothing compared. */
async function evaluateToplevels(context: RunContext): Promise<RunEnd> {
  const fleet = await discoverFleet(context.source, context);
  const results = await evaluateRelease(context.source, [...fleet.hosts.keys()], context);
  const failures = new Map(results.flatMap((one) => (one.ok ? [] : [[one.host, one.error] as const])));
  const broken = failures.size > 0 ? ` Not: ${[...failures.keys()].join(', ')}.` : '';
  const note = `${results.length - failures.size} of ${results.length} hosts evaluate.${broken}`;
  return { kind: 'done', note, failures };
}

/** The same commit was released, and no host was left behind then: evaluation is pure, so the answer is known. */
function isRepeat(manifest: ReleaseManifest, found: Discovered, { source }: RunContext): boolean {
  return manifest.source === source.commit && isComplete(manifest, found);
}

/** Whether the release named every host and every cache: nothing was left for a later run. */
function isComplete(manifest: ReleaseManifest, { fleet, caches }: Discovered): boolean {
  if (hasNewCache(manifest, caches)) return false;
  const names = Object.keys(manifest.hosts);
  const all = [...fleet.hosts.keys()];
  return (
    names.length === all.length && all.every((host) => (manifest.hosts[host]?.state ?? 'kept') !== 'kept')
  );
}

function assertSomeHost(results: readonly HostResult<unknown>[], { fleet }: Discovered): void {
  const required = requiredFailure(results, fleet.hosts);
  if (required) throw required;
  const failed = results.flatMap((result) => (result.ok ? [] : [result]));
  const [first] = failed;
  if (first === undefined || failed.length < results.length) return;
  throw new SlipwayError('evaluation_failed', `No host evaluates. ${first.host}: ${first.error.message}`, {
    next: 'Repair the flake; nothing was published.',
    cause: first.error,
  });
}

async function rekey(
  found: Discovered,
  results: readonly HostResult<SourceHostFacts>[],
  context: RunContext,
): Promise<ReleaseTree | 'identity-needed'> {
  const { mirror, source, options, signal, recorder } = context;
  return await rekeyRelease({
    mirror,
    fleet: found.fleet,
    results,
    source: source.commit,
    base: found.base,
    pool: context.rollback?.tree ?? (found.previous ?? found.base)?.manifest.tree,
    identityFile: options.rekeyIdentityFile,
    optional: options.goal === 'plan' || options.goal === 'build',
    approved: options.approvedGrants,
    onLine: (line) => recorder.emit({ kind: 'log', stage: 'rekey', line }),
    signal,
  });
}

function held(found: Discovered, context: RunContext): Standing | RunEnd {
  const commit = context.source.commit.slice(0, 12);
  const manifest = found.previous?.manifest;
  if (manifest === undefined) throw new SlipwayError('internal', 'A source is held without a release.');
  const how = 'Push a newer commit, or release it on purpose with --allow-rollback.';
  const note = `Nothing to do: release ${manifest.serial} rolled ${commit} back. ${how}`;
  return standStill(found, manifest, note, context);
}

function repeated(found: Discovered, manifest: ReleaseManifest, context: RunContext): Standing {
  const commit = context.source.commit.slice(0, 12);
  const note = `Nothing to do: release ${manifest.serial} was made from this commit (${commit}).`;
  return standStill(found, manifest, note, context);
}

function sameContent(found: Discovered, manifest: ReleaseManifest, context: RunContext): Standing {
  const commit = context.source.commit.slice(0, 12);
  const note = `Nothing to do: ${commit} has the same content as release ${manifest.serial}.`;
  return standStill(found, manifest, note, context);
}

function standStill(
  { fleet }: Discovered,
  manifest: ReleaseManifest,
  note: string,
  { recorder }: RunContext,
): Standing {
  for (const [host, { toplevel }] of Object.entries(manifest.hosts))
    recorder.emit({ kind: 'host', host, phase: 'unchanged', toplevel });
  return { kind: 'nothing-to-do', note, fleet, manifest, before: manifest, failures: new Map() };
}

function endBeforePublishing({ plans }: Candidate, { options }: RunContext): RunEnd {
  const failures = planFailures(plans);
  const change = plans.some((plan) => plan.kind === 'build' || plan.kind === 'deferred');
  const kind = change || failures.size > 0 ? 'done' : 'nothing-to-do';
  const verb = options.goal === 'plan' ? 'The release would have' : 'Built, not published:';
  return { kind, note: `${verb} ${describePlans(plans)}.`, failures };
}

async function verify(found: Discovered, candidate: Candidate, context: RunContext): Promise<void> {
  const { recorder, mirror } = context;
  if (candidate.secrets === undefined) return recorder.skip('test', 'the fleet has no secrets to check');
  await recorder.stage(
    'test',
    async () =>
      await verifySecrets({
        mirror,
        fleet: found.fleet,
        release: candidate.release.commit,
        results: candidate.results,
        secrets: candidate.secrets,
      }),
    () => 'every secret opens for exactly its hosts',
  );
}

async function publish(
  found: Discovered,
  candidate: Candidate,
  { context, attempt }: { readonly context: RunContext; readonly attempt: 'first' | 'last' },
): Promise<Standing | 'lost-race'> {
  const { fleet, previous, caches } = found;
  const { plans } = candidate;
  const manifest = planManifest({
    config: fleet.config,
    hosts: fleet.hosts,
    plans,
    previous: previous?.manifest,
    serial: nextSerial(found),
    release: { commit: candidate.release.commit, tree: candidate.tree, source: context.source.commit },
    caches: manifestCaches(caches),
    at: candidate.at,
  });
  const failures = planFailures(plans);
  const before = previous?.manifest;
  if (before?.tree === manifest.tree && sameHosts(before, manifest) && !hasNewCache(before, caches)) {
    const note = `Release ${before.serial} stands: ${describePlans(plans)}.`;
    return { kind: 'nothing-to-do', note, fleet, manifest: before, before, failures };
  }
  await cache(found, candidate, context);
  const published = await publishOnce(found, manifest, { context, attempt });
  if (!published) return 'lost-race';
  const source = `${context.options.sourceBranch} ${context.source.commit.slice(0, 12)}`;
  const note = `Release ${manifest.serial} of ${source}: ${describePlans(plans)}.`;
  return { kind: 'done', note, fleet, manifest, before, failures };
}

function cachesOf({ config }: FleetFacts, { options }: RunContext): readonly CacheSetting[] {
  return planCaches(config.caches, options.caches ?? [], options.serverUrl);
}

async function cache(
  { caches, previous }: Discovered,
  { plans }: Candidate,
  context: RunContext,
): Promise<void> {
  const whole = previous !== undefined && hasNewCache(previous.manifest, caches);
  const wanted = plans.flatMap((plan) =>
    plan.kind === 'build' || (whole && plan.kind === 'unchanged' && plan.state === 'built') ? [plan] : [],
  );
  if (caches.length === 0) return context.recorder.skip('cache', 'no cache is configured');
  if (wanted.length === 0) return context.recorder.skip('cache', 'nothing was built');
  await context.recorder.stage('cache', async () => await pushClosures(wanted, caches, context));
}

/** False when the branch moved meanwhile and there is another attempt. */
async function publishOnce(
  { previous }: Discovered,
  manifest: ReleaseManifest,
  { context, attempt }: { readonly context: RunContext; readonly attempt: 'first' | 'last' },
): Promise<boolean> {
  const { key, mirror, options, signal } = context;
  const signing = options.commitSigning;
  if (key === undefined) throw new SlipwayError('internal', 'A release is published without a key.');
  const request = {
    mirror,
    remote: options.remote,
    key,
    manifest,
    previous,
    at: new Date(),
    signing,
    signal,
  };
  const work = async (): Promise<boolean> => {
    try {
      await publishRelease(request);
      return true;
    } catch (error) {
      if (attempt === 'first' && isCode(error, 'publish_conflict')) return false;
      throw error;
    }
  };
  return await context.recorder.stage('publish', work, (done) =>
    done ? `${manifest.branch} is ${manifest.commit.slice(0, 12)}` : 'lost the race for the branch',
  );
}
