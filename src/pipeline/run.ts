// `slipway ci run` from end to end: evaluate -> re-key -> build the release commit -> cache -> publish -> deploy.
// Every run ends: done, nothing to do (with the reason), or failed with its cause. Until `publish` nothing outside
// the state folder has changed; what a killed run leaves there is removed when the next one begins.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createDeployId } from '../deploy/deploy-id.ts';
import { openNix } from '../effects/nix-cli.ts';
import type { NixSettings } from '../effects/nix-config.ts';
import type { EmitRunEvent } from '../api/run-events.ts';
import { parseSecretKey, type SecretKey } from '../nix/signature.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';
import { deployHosts, hooksHere } from './deploy-hosts.ts';
import { fetchToplevels } from './fetch-toplevels.ts';
import { fetchSource, fetchTips } from './fetch-source.ts';
import { findTarget } from './find-target.ts';
import { makeRelease } from './make-release.ts';
import { planWaves } from './plan-waves.ts';
import type { RunContext, Standing } from './run-context.ts';
import { endRun, failRun, type RunEnd } from './run-end.ts';
import type { RunOptions, RunResult } from './run-options.ts';
import { RunRecorder } from './run-recorder.ts';
import { openWorkspace } from './workspace.ts';

const LOCK_TIMEOUT_MS = 15 * 60_000;
const DEPLOY_JOBS = 4;

/** Runs the pipeline as far as `options.goal` says. Never throws: how it ended is the result and the last event. */
export async function runPipeline(
  options: RunOptions,
  emit: EmitRunEvent,
  signal: AbortSignal,
): Promise<RunResult> {
  const run = options.run ?? createDeployId();
  return await record(run, emit, async (recorder) => await runStages(run, options, recorder, signal));
}

/** Ends a run that could not even begin, so that its readers hear why in the same words. */
export async function refuseRun(error: unknown, emit: EmitRunEvent): Promise<RunResult> {
  return await record(createDeployId(), emit, async () => {
    throw asSlipwayError(error);
  });
}

async function record(
  run: string,
  emit: EmitRunEvent,
  work: (recorder: RunRecorder) => Promise<RunEnd>,
): Promise<RunResult> {
  const recorder = new RunRecorder(emit);
  const result = await work(recorder).then(
    (end) => endRun(run, end),
    (error: unknown) => {
      recorder.failure(error);
      return failRun(run, error);
    },
  );
  recorder.finish();
  const { outcome, note, release, serial } = result;
  const standing = { ...(release !== undefined && { release }), ...(serial !== undefined && { serial }) };
  emit({ kind: 'run-finished', outcome, note, ms: recorder.elapsed(), ...standing });
  return result;
}

async function runStages(
  run: string,
  options: RunOptions,
  recorder: RunRecorder,
  signal: AbortSignal,
): Promise<RunEnd> {
  const key = await readSigningKey(options);
  await using workspace = await openWorkspace(options.stateDirectory, options.remote, {
    timeoutMs: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
    signal,
    onWait: () => recorder.emit({ kind: 'log', stage: 'evaluate', line: 'waiting for another run to end' }),
  });
  const { mirror, roots } = workspace;
  const fetched = await fetchSource(mirror, options, signal);
  const nix = openNix(nixSettings(options));
  const given = { run, options, recorder, signal, nix, mirror, rootsFolder: join(roots, run), key };
  const context = await findTarget({ ...given, source: fetched.source }, fetched.tips);
  const { source } = context;
  const { reason, sourceBranch: branch } = options;
  recorder.emit({ kind: 'run-started', run, source: source.commit, branch, reason });
  const standing = await releaseWithRetry(context, fetched.tips);
  return 'fleet' in standing ? await rollOut(standing, context) : standing;
}

/** A release that lost the race for the branch is planned once more, on top of the one that won. */
async function releaseWithRetry(
  context: RunContext,
  tips: ReadonlyMap<string, string>,
): Promise<Standing | RunEnd> {
  const first = await makeRelease(context, tips, 'first');
  if (first !== 'lost-race') return first;
  const line = 'the release branch moved meanwhile: planning again on top of it';
  context.recorder.emit({ kind: 'log', stage: 'publish', line });
  const second = await makeRelease(
    context,
    await fetchTips(context.mirror, context.options.remote, context.signal),
    'last',
  );
  if (second !== 'lost-race') return second;
  throw new SlipwayError('internal', 'The last attempt to publish reported a lost race.');
}

async function rollOut(standing: Standing, context: RunContext): Promise<RunEnd> {
  const { manifest, fleet, before, failures, note, kind } = standing;
  const { deployer, goal } = context.options;
  const waves = planWaves(manifest, fleet.hosts, before);
  if (goal !== 'deploy' || deployer === undefined) {
    context.recorder.skip('deploy', 'not asked for');
    return { kind, note, manifest, failures };
  }
  const { recorder, signal, options, nix } = context;
  for (const { name } of hooksHere(fleet.config.deploy))
    recorder.emit({
      kind: 'log',
      stage: 'deploy',
      line: `hook ${name} of rollouts is for the controller: not run`,
    });
  const jobs = options.deployJobs ?? DEPLOY_JOBS;
  const result = await recorder.stage(
    'deploy',
    async () => {
      const ready = await fetchToplevels(waves, { nix, recorder, signal, before });
      return await deployHosts(ready, { deployer, recorder, signal, jobs });
    },
    ({ committed }) => (committed.length > 0 ? `${committed.join(', ')} committed` : undefined),
  );
  const brought = result.committed.length > 0 ? ` Brought to it: ${result.committed.join(', ')}.` : '';
  const stayed = result.failures.size > 0 ? ` Not brought: ${[...result.failures.keys()].join(', ')}.` : '';
  return {
    kind: result.committed.length > 0 ? 'done' : kind,
    note: `${note}${brought}${stayed}`,
    manifest,
    failures: new Map([...failures, ...result.failures]),
  };
}

/** The given caches serve too: what they have need not be built. One that is down must not fail the build. */
function nixSettings({ nix, caches }: RunOptions): NixSettings {
  const known = (caches ?? []).filter(({ url, publicKeys }) => /^https?:/.test(url) && publicKeys.length > 0);
  if (known.length === 0) return nix ?? {};
  return {
    ...nix,
    substituters: [...(nix?.substituters ?? []), ...known.map(({ url }) => url)],
    trustedPublicKeys: [...(nix?.trustedPublicKeys ?? []), ...known.flatMap(({ publicKeys }) => publicKeys)],
    extra: { fallback: 'true', 'connect-timeout': '5', ...nix?.extra },
  };
}

async function readSigningKey(options: RunOptions): Promise<SecretKey | undefined> {
  const publishes = options.goal === 'publish' || options.goal === 'deploy';
  if (options.signingKeyFile === undefined) {
    if (!publishes) return undefined;
    throw new SlipwayError('invalid', 'A release needs a key that signs it.', {
      next: 'Make one with "nix key generate-secret --key-name fleet-1 > release.key", give it with --signing-key release.key.',
    });
  }
  const file = options.signingKeyFile;
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new SlipwayError('invalid', `The signing key ${file} cannot be read.`, {
      next: 'Check --signing-key.',
      cause: error,
    });
  });
  return parseSecretKey(text);
}
