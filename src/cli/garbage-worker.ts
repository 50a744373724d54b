// A thread that collects garbage once: it reads every row, which would hold up the requests of the thread that serves, and
// what it had in memory goes with it. Its connection to the database is its own.
import { constants, getPriority, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { collectGarbage, type GarbageSettings } from '../cache/garbage/collect-garbage.ts';
import type { ServerConfig } from '../api/server-config.ts';
import { asSlipwayError, type ErrorCode } from '../util/errors.ts';
import { dataPaths } from './data-directory.ts';
import { openServerBlobs, openServerDatabase } from './server-storage.ts';

export interface GarbageTask {
  readonly config: ServerConfig;
  readonly settings: GarbageSettings;
}

/** `undefined`: it is done. */
export interface GarbageReply {
  readonly code: ErrorCode;
  readonly message: string;
  readonly next: string | undefined;
}

/** Added to the niceness that the server has. */
const NICE = 10;

const { config, settings } = workerData as GarbageTask;
yieldToServing();
const stopping = new AbortController();
parentPort?.on('message', () => stopping.abort());
const failure = await collect().then(
  () => undefined,
  (error: unknown): GarbageReply => {
    const { code, message, next } = asSlipwayError(error);
    return { code, message, next };
  },
);
parentPort?.postMessage(failure, []);
parentPort?.close();

async function collect(): Promise<void> {
  const paths = dataPaths(config.data);
  await using database = await openServerDatabase(paths, config);
  await using blobs = await openServerBlobs(paths, config);
  await collectGarbage({ database, blobs }, { settings, signal: stopping.signal });
}

/** Where cores are few, this thread waits for the one that serves. Linux knows the priority of a thread; elsewhere all would wait. */
function yieldToServing(): void {
  if (process.platform === 'linux')
    setPriority(Math.min(getPriority() + NICE, constants.priority.PRIORITY_LOW));
}
