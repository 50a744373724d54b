// The loop of fuzzing: change an input, run it, keep it when it went a new way. The input that runs is in shared memory, so
// that whoever watches from outside has it when it hangs or eats all memory.
import { seededRandom } from '../../test/contract/seeded-random.ts';
import { placeOf, tryInput, type FuzzTarget } from './fuzz-target.ts';
import { LARGEST_INPUT, mutate } from './mutate.ts';
import { Coverage } from './new-coverage.ts';

export interface FuzzOrder {
  readonly name: string;
  readonly seconds: number;
  readonly seed: number;
  /** Iterations, length of the input, then the input. */
  readonly shared: SharedArrayBuffer;
}

export interface FuzzFinding {
  readonly what: string;
  readonly input: Uint8Array;
}

export interface FuzzReport {
  readonly iterations: number;
  readonly corpus: number;
  readonly blocks: number;
  readonly slowestMs: number;
  readonly findings: readonly FuzzFinding[];
}

export const SHARED_BYTES = 8 + LARGEST_INPUT;
const SLOW_MS = 1_000;
const MOST_BUFFERS = 700 * 1024 * 1024;
const MOST_CORPUS = 3_000;
/** Inputs between two looks at what was reached: a look costs more than most parsers. */
const BATCH = 12;
const GENERATE_EVERY = 5;

export async function fuzz(target: FuzzTarget, { seconds, seed, shared }: FuzzOrder): Promise<FuzzReport> {
  const until = performance.now() + seconds * 1000;
  const inputs = new Inputs(target, seed, await readSeeds(target));
  const trial = new Trial(target, shared);
  using coverage = new Coverage();
  for (const input of inputs.corpus) await trial.run(input);
  coverage.takeNew();
  while (performance.now() < until) {
    const batch = await inputs.next();
    for (const input of batch) await trial.run(input);
    if (coverage.takeNew()) inputs.keep(batch);
  }
  return { ...trial.figures, corpus: inputs.corpus.length, blocks: coverage.size };
}

async function readSeeds(target: FuzzTarget): Promise<Buffer[]> {
  const seeds = await target.seeds();
  return seeds.map((input): Buffer => Buffer.from(input)).filter(({ length }) => length <= LARGEST_INPUT);
}

/** Makes inputs out of those that have reached something new. */
class Inputs {
  readonly #target: FuzzTarget;
  readonly #random: () => number;
  readonly #seed: number;
  readonly corpus: Buffer[];
  #batches = 0;

  constructor(target: FuzzTarget, seed: number, seeds: Buffer[]) {
    this.#target = target;
    this.#seed = seed;
    this.#random = seededRandom(seed);
    this.corpus = seeds;
  }

  async next(): Promise<Buffer[]> {
    const { generate, words = [], json = false } = this.#target;
    const n = this.#batches++;
    const batch = n % GENERATE_EVERY === 0 ? [...((await generate?.(this.#seed + n)) ?? [])] : [];
    const options = { random: this.#random, corpus: this.corpus, words, json };
    while (batch.length < BATCH) {
      const parent = this.corpus[Math.floor(this.#random() * this.corpus.length)];
      batch.push(mutate(parent ?? Buffer.alloc(0), options));
    }
    return batch;
  }

  keep(batch: readonly Buffer[]): void {
    if (this.corpus.length < MOST_CORPUS) this.corpus.push(...batch);
  }
}

/** Runs inputs and remembers what went wrong, each thing once. */
class Trial {
  readonly #target: FuzzTarget;
  readonly #counters: Int32Array;
  readonly #space: Uint8Array;
  readonly #findings = new Map<string, FuzzFinding>();
  #slowestMs = 0;

  constructor(target: FuzzTarget, shared: SharedArrayBuffer) {
    this.#target = target;
    this.#counters = new Int32Array(shared, 0, 2);
    this.#space = new Uint8Array(shared, 8);
  }

  get figures(): Omit<FuzzReport, 'corpus' | 'blocks'> {
    return {
      iterations: this.#counters[0] ?? 0,
      slowestMs: Math.round(this.#slowestMs),
      findings: [...this.#findings.values()],
    };
  }

  async run(input: Buffer): Promise<void> {
    this.#counters[1] = input.length;
    this.#space.set(input);
    Atomics.add(this.#counters, 0, 1);
    const since = performance.now();
    const finding = await tryInput(this.#target, input);
    const tookMs = performance.now() - since;
    this.#slowestMs = Math.max(this.#slowestMs, tookMs);
    const what = finding ?? (await tooSlow(this.#target, input, tookMs)) ?? tooLarge();
    if (what === undefined || this.#findings.has(placeOf(what))) return;
    this.#findings.set(placeOf(what), { what, input });
  }
}

/** A busy machine makes one run slow, not three. */
async function tooSlow(target: FuzzTarget, input: Buffer, tookMs: number): Promise<string | undefined> {
  if (tookMs < SLOW_MS) return undefined;
  for (let again = 0; again < 2; again++) {
    const since = performance.now();
    await tryInput(target, input);
    if (performance.now() - since < SLOW_MS) return undefined;
  }
  return `it takes ${Math.round(tookMs)} ms for ${input.length} bytes`;
}

function tooLarge(): string | undefined {
  const { arrayBuffers, external } = process.memoryUsage();
  return Math.max(arrayBuffers, external) > MOST_BUFFERS
    ? `it holds ${arrayBuffers} bytes of buffers`
    : undefined;
}
