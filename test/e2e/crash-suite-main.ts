// `make test-crash`: servers are killed with SIGKILL while they take uploads, collect garbage, merge packs and write the
// journal, on every pair of storage. Whatever was accepted is whole afterwards, nothing is served that is not what its
// narinfo says, and fsck is clean. The last line is JSON.
// Usage: crash-suite-main.ts [--kills 1000] [--seed N] [--only disk+sqlite] [--story 50]
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { tellCrashStory, type CrashFigures } from './crash/crash-story.ts';
import { CrashPlaces, PAIRS, type Pair } from './crash/crash-places.ts';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '1000' },
    seed: { type: 'string', default: String(randomInt(1_000_000)) },
    only: { type: 'string', default: '' },
    story: { type: 'string', default: '50' },
  },
});
process.exitCode = await runSuite(Number(values.kills), Number(values.seed), Number(values.story));

interface Story {
  readonly pair: Pair;
  readonly kills: number;
  readonly seed: number;
}

async function runSuite(kills: number, seed: number, storyKills: number): Promise<number> {
  const started = performance.now();
  const pairs = PAIRS.filter((pair) => pair.includes(values.only));
  const stories = planStories(pairs, kills, storyKills, seed);
  process.stdout.write(`${kills} kills on ${pairs.join(', ')}; seed ${seed}\n`);
  await using places = new CrashPlaces();
  const total = { kills: 0, accepted: 0, refused: 0, reads: 0, fscks: 0 };
  const failures: string[] = [];
  for (const story of stories) {
    const since = performance.now();
    let died = 0;
    try {
      const figures = await tellCrashStory({ ...story, places, fsckEvery: 10, onKill: () => died++ });
      add(total, figures);
      const seconds = Math.round((performance.now() - since) / 1000);
      process.stdout.write(`ok ${describe(story)}: ${JSON.stringify(figures)} in ${seconds} s\n`);
    } catch (error) {
      failures.push(describe(story));
      process.stdout.write(
        `FAILED ${describe(story)} after ${died} kills: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      );
    }
  }
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stdout.write(`${JSON.stringify({ suite: 'crash', seed, pairs, ...total, failures, seconds })}\n`);
  return failures.length === 0 && total.kills >= kills ? 0 : 1;
}

/** Short lives on each pair in turn: a story that fails ends, the others are still told. */
function planStories(pairs: readonly Pair[], kills: number, each: number, seed: number): Story[] {
  const stories: Story[] = [];
  for (let left = kills; left > 0 && pairs.length > 0; left -= each) {
    const pair = pairs[stories.length % pairs.length] as Pair;
    stories.push({ pair, kills: Math.min(each, left), seed: seed + stories.length });
  }
  return stories;
}

function describe({ pair, kills, seed }: Story): string {
  return `${pair} (${kills} kills, --seed ${seed} --kills ${kills} --story ${kills} --only ${pair})`;
}

function add(total: { -readonly [K in keyof CrashFigures]: number }, figures: CrashFigures): void {
  for (const key of Object.keys(figures) as (keyof CrashFigures)[]) total[key] += figures[key];
}
