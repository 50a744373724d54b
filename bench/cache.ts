// What the cache stores and how fast it serves and takes, side by side with what else there is, in one run:
// `npm run bench:cache -- --json` (last line: one JSON object), `--full` for about 1 GB. See docs/adr/0008.
// Throughput is taken in turns and compared by the median of the ratios: the machine may be busy with other things.
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { makeCorpus } from './cache-corpus.ts';
import { measureDedup } from './cache-dedup.ts';
import { measurePush } from './cache-push.ts';
import { measureServing } from './cache-serving.ts';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean' },
    full: { type: 'boolean' },
    corpus: { type: 'string' },
    only: { type: 'string' },
  },
});
const corpusFolder = values.corpus ?? path.join(homedir(), '.cache', 'slipway', 'bench-corpus');
const work = await mkdtemp(path.join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'slipway-bench-'));
const parts = { dedup: measureDedup, serving: measureServing, push: measurePush };
try {
  const corpus = await makeCorpus(corpusFolder, values.full === true);
  const results: Record<string, unknown> = {};
  const checks: Record<string, boolean> = {};
  for (const [name, measure] of Object.entries(parts)) {
    if (values.only !== undefined && values.only !== name) continue;
    const folder = path.join(work, name);
    await mkdir(folder);
    const result = await measure(corpus, folder);
    results[name] = result.figures;
    Object.assign(checks, result.checks);
    console.log(`${name}: ${JSON.stringify(result.figures, undefined, 1)}`);
  }
  for (const [name, holds] of Object.entries(checks)) console.log(`${holds ? 'ok    ' : 'MISSED'} ${name}`);
  const summary = { bench: 'cache', ok: Object.values(checks).every(Boolean), checks, results };
  if (values.json === true) console.log(JSON.stringify(summary));
} finally {
  await rm(work, { recursive: true, force: true });
}
