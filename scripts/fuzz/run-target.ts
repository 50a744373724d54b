// Runs one target in its thread and watches it from outside: an input that never ends, or that takes all memory, is a
// finding like any other.
import { Worker } from 'node:worker_threads';
import { SHARED_BYTES, type FuzzOrder, type FuzzReport } from './fuzz-loop.ts';

const LOOK_MS = 500;
const HANG_MS = 20_000;
/** Loading all code on a busy machine. */
const START_MS = 120_000;
const HEAP_MB = 512;

export async function runTarget(order: Omit<FuzzOrder, 'shared'>): Promise<FuzzReport> {
  const shared = new SharedArrayBuffer(SHARED_BYTES);
  const counters = new Int32Array(shared, 0, 2);
  const worker = new Worker(new URL('fuzz-worker.ts', import.meta.url), {
    workerData: { ...order, shared } satisfies FuzzOrder,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
  });
  const failed = (what: string): FuzzReport => ({
    iterations: counters[0] ?? 0,
    corpus: 0,
    blocks: 0,
    slowestMs: 0,
    findings: [{ what, input: Buffer.from(new Uint8Array(shared, 8, counters[1])) }],
  });
  return await new Promise<FuzzReport>((resolve) => {
    let [last, since] = [-1, performance.now()];
    const looking = setInterval(() => {
      if (counters[0] !== last) [last, since] = [counters[0] ?? 0, performance.now()];
      else if (performance.now() - since > (counters[0] === 0 ? START_MS : HANG_MS)) end(failed('it hangs'));
    }, LOOK_MS);
    const end = (report: FuzzReport): void => {
      clearInterval(looking);
      void worker.terminate();
      resolve(report);
    };
    worker.once('message', end);
    worker.once('error', (error) => end(failed(error.stack ?? error.message)));
  });
}
