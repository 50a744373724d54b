// Pushes what waits in a queue, for as long as it is let: batches together, and one by one when they fail together, so
// that one bad path does not hold up the others. A cache that is down is tried again with growing pauses, for ever.
import type { StorePath } from '../nix/store-path.ts';
import { sleep } from '../util/deadline.ts';
import { asSlipwayError, type SlipwayError } from '../util/errors.ts';
import type { PushQueue, QueuedBatch } from './push-queue.ts';

const IDLE_MS = 2_000; // Attic's watcher gathers as long
const LONGEST_PAUSE_MS = 5 * 60_000;
/** Refusals of one batch before it is moved aside. */
const ATTEMPTS = 5;

/** These say something about the cache or the network, not about the paths. */
const OUTAGES = new Set(['unavailable', 'timeout', 'unauthorized', 'forbidden', 'missing_tool']);

export interface DrainOptions {
  readonly queue: PushQueue;
  readonly push: (paths: readonly StorePath[], signal: AbortSignal) => Promise<unknown>;
  /** Which of the paths are not in the store: removed since, or never made. */
  readonly findInvalid: (paths: readonly StorePath[], signal: AbortSignal) => Promise<ReadonlySet<string>>;
  /** Outputs of a derivation: Nix 2.8 tells its post-build hook nothing else. */
  readonly findOutputs: (derivation: StorePath) => Promise<readonly StorePath[]>;
  readonly report: (event: DrainEvent) => void;
  readonly signal: AbortSignal;
  /** Ends when nothing waits any more, instead of waiting for more. */
  readonly once?: boolean;
  /** For tests: shorter waits. */
  readonly idleMs?: number;
}

export type DrainEvent =
  | { readonly kind: 'pushed'; readonly paths: number }
  | { readonly kind: 'outage'; readonly error: SlipwayError; readonly pauseMs: number }
  | {
      readonly kind: 'refused';
      readonly error: SlipwayError;
      readonly batch: string;
      readonly final: boolean;
    };

/** Resolves when `signal` fires, or with `once` when the queue is empty. */
export async function drainQueue(options: DrainOptions): Promise<void> {
  const idle = options.idleMs ?? IDLE_MS;
  const refusals = new Map<string, number>();
  let pause = idle;
  while (!options.signal.aborted) {
    const batches = await options.queue.next();
    if (batches.length === 0 && options.once === true) return;
    const outage = await pushBatches(options, batches, refusals);
    pause = outage === undefined ? idle : Math.min(pause * 2, LONGEST_PAUSE_MS);
    if (outage !== undefined) options.report({ kind: 'outage', error: outage, pauseMs: pause });
    await sleep(pause, options.signal).catch(() => undefined);
  }
}

/** Returns what is wrong with the cache, when that is what is wrong. */
async function pushBatches(
  options: DrainOptions,
  batches: readonly QueuedBatch[],
  refusals: Map<string, number>,
): Promise<SlipwayError | undefined> {
  if (batches.length === 0) return undefined;
  const together = await attempt(options, batches);
  if (together === undefined || isOutage(together)) return outageOf(together);
  for (const batch of batches) {
    const error = await attempt(options, [batch]);
    if (error === undefined) continue;
    if (isOutage(error)) return error;
    await refuse(options, batch, error, refusals);
  }
  return undefined;
}

async function attempt(
  { queue, push, findInvalid, findOutputs, report, signal }: DrainOptions,
  batches: readonly QueuedBatch[],
): Promise<SlipwayError | undefined> {
  try {
    const named = [...new Set(batches.flatMap(({ paths }) => paths))];
    const outputs = await Promise.all(
      named.map(async (path) => (path.endsWith('.drv') ? await findOutputs(path) : [path])),
    );
    const wanted = [...new Set(outputs.flat())];
    const invalid = wanted.length === 0 ? new Set() : await findInvalid(wanted, signal);
    const paths = wanted.filter((path) => !invalid.has(path));
    if (paths.length > 0) await push(paths, signal);
    for (const batch of batches) await queue.done(batch);
    if (paths.length > 0) report({ kind: 'pushed', paths: paths.length });
    return undefined;
  } catch (error) {
    return asSlipwayError(error);
  }
}

async function refuse(
  { queue, report }: DrainOptions,
  batch: QueuedBatch,
  error: SlipwayError,
  refusals: Map<string, number>,
): Promise<void> {
  const count = (refusals.get(batch.file) ?? 0) + 1;
  refusals.set(batch.file, count);
  const final = count >= ATTEMPTS;
  report({ kind: 'refused', error, batch: batch.file, final });
  if (!final) return;
  refusals.delete(batch.file);
  await queue.setAside(batch);
}

function isOutage(error: SlipwayError): boolean {
  return OUTAGES.has(error.code) || error.code === 'cancelled';
}

function outageOf(error: SlipwayError | undefined): SlipwayError | undefined {
  return error?.code === 'cancelled' ? undefined : error;
}
