// Stage cache: brings the closures of what was built to every cache, before anything is published that needs them.
// http caches get Slipway's own push (what is missing, in parallel); other stores are written by Nix itself.
import { pushClosure } from '../client/push-closure.ts';
import { copyClosures, findInvalidPaths, type Nix } from '../effects/nix-cli.ts';
import { parseStorePath } from '../nix/store-path.ts';
import type { CacheSetting } from './plan-caches.ts';
import type { HostBuild } from './build-hosts.ts';
import type { RunRecorder } from './run-recorder.ts';

export interface PushContext {
  readonly nix: Nix;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
}

/** Pushes the toplevels that this store has; a cache that cannot take them fails the run, for hosts would find nothing there. */
export async function pushClosures(
  wanted: readonly HostBuild[],
  caches: readonly CacheSetting[],
  context: PushContext,
): Promise<void> {
  const built = await selectPresent(wanted, context);
  tell(built, 'caching', context);
  const paths = [...new Set(built.map(({ facts }) => facts.outPath))];
  for (const cache of caches) {
    const note = /^https?:/.test(cache.url)
      ? await pushByHttp(cache, paths, context)
      : await pushByNix(cache, paths, context);
    context.recorder.emit({ kind: 'log', stage: 'cache', line: `${cache.url}: ${note}` });
  }
  tell(built, 'cached', context);
}

/** What an earlier run built may be gone from this store; its caches had it then. */
async function selectPresent(wanted: readonly HostBuild[], context: PushContext): Promise<HostBuild[]> {
  const { nix, recorder, signal } = context;
  const paths = wanted.map(({ facts }) => facts.outPath);
  const invalid = await recorder.outside('nix-build', async () => await findInvalidPaths(nix, paths, signal));
  return wanted.filter(({ facts }) => !invalid.has(facts.outPath));
}

function tell(built: readonly HostBuild[], phase: 'caching' | 'cached', { recorder }: PushContext): void {
  for (const { host, facts } of built) recorder.emit({ kind: 'host', host, phase, toplevel: facts.outPath });
}

async function pushByHttp(
  cache: CacheSetting,
  paths: readonly string[],
  { nix, signal }: PushContext,
): Promise<string> {
  const token = await cache.readToken?.();
  const result = await pushClosure({
    target: { url: cache.url, ...(token !== undefined && { token: token.trim() }) },
    paths: paths.map((path) => parseStorePath(path)),
    env: nix.env,
    signal,
  });
  return `${result.pushed} paths pushed, ${result.present} there already, ${result.sentBytes} bytes sent`;
}

async function pushByNix(
  cache: CacheSetting,
  paths: readonly string[],
  context: PushContext,
): Promise<string> {
  const { recorder, signal, nix } = context;
  const onLine = (line: string): void => recorder.emit({ kind: 'log', stage: 'cache', line });
  await recorder.outside(
    'nix-copy',
    async () => await copyClosures(nix, cache.url, paths, { signal, onLine }),
  );
  return `${paths.length} closures copied`;
}
