// Mirrors that the configuration names, for as long as the server runs. The server is its own source, over HTTP like any
// other client; a mirror that fails is told and tried again at its next time.
import { readFile } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import type { MirrorConfig } from '../api/server-config.ts';
import { mirrorCache } from '../client/mirror-cache.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { SlipwayError } from '../util/errors.ts';

export interface MirrorSchedule {
  readonly mirrors: readonly MirrorConfig[];
  /** Where the server listens. */
  readonly urls: readonly string[];
  /** File with a token that may read every cache. */
  readonly adminTokenFile: string;
  readonly onError: (error: unknown) => void;
}

const FIRST_MS = 5_000;
const JOBS = 4;

/** Ends when the signal fires, and never rejects. */
export async function mirrorRegularly(schedule: MirrorSchedule, signal: AbortSignal): Promise<void> {
  await Promise.all(schedule.mirrors.map(async (mirror) => await keepMirror(schedule, mirror, signal)));
}

async function keepMirror(
  schedule: MirrorSchedule,
  mirror: MirrorConfig,
  signal: AbortSignal,
): Promise<void> {
  const everyMs = mirror.every * 1000;
  for (let pause = Math.min(FIRST_MS, everyMs); await slept(pause, signal); pause = everyMs)
    try {
      await mirrorOnce(schedule, mirror, signal);
    } catch (error) {
      if (!signal.aborted) schedule.onError(error);
    }
}

async function mirrorOnce(
  { urls, adminTokenFile }: MirrorSchedule,
  { cache, to, token }: MirrorConfig,
  signal: AbortSignal,
): Promise<void> {
  const server = urls.find((url) => url.startsWith('http'));
  if (server === undefined)
    throw new SlipwayError('invalid', 'A mirror needs the server to listen on a TCP address.', {
      next: 'Add one to listen, such as 127.0.0.1:7480.',
    });
  const result = await mirrorCache({
    source: { url: `${server}/${cache}`, token: (await readFile(adminTokenFile, 'utf8')).trim() },
    destination: { url: to, ...(token !== undefined && { token: await readSecretReference(token) }) },
    jobs: JOBS,
    signal,
  });
  const [first] = result.failures;
  if (first !== undefined)
    throw new SlipwayError(
      'conflict',
      `${result.failed} paths of ${cache} could not be mirrored to ${to}: ${first.path}: ${first.message}`,
    );
}

async function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  return await wait(ms, true, { signal, ref: false }).catch(() => false);
}
