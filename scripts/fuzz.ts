// `npm run fuzz -- NAME --seconds N`: gives a parser inputs that are nearly right, guided by what code they reach. A parser
// may refuse with an error of ours; it never fails otherwise, hangs, eats memory, or reads back something else.
// Usage: fuzz.ts --list | NAME|all [--seconds 10] [--seed N] [--file INPUT] [--save FOLDER]
import { createHash, randomInt } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { tryInput } from './fuzz/fuzz-target.ts';
import { runTarget } from './fuzz/run-target.ts';
import { findTarget, TARGETS } from './fuzz/targets.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    list: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(randomInt(1_000_000)) },
    file: { type: 'string' },
    save: { type: 'string', default: '.fuzz' },
  },
});
process.exitCode = await main(positionals[0]);

async function main(name: string | undefined): Promise<number> {
  if (values.list || name === undefined) {
    process.stdout.write(`${TARGETS.map((target) => target.name).join('\n')}\n`);
    return values.list ? 0 : 2;
  }
  if (values.file !== undefined) return await runFile(name, values.file);
  const names = name === 'all' ? TARGETS.map((target) => target.name) : [findTarget(name).name];
  let failed = 0;
  for (const one of names) failed += await fuzzOne(one);
  return failed === 0 ? 0 : 1;
}

async function fuzzOne(name: string): Promise<number> {
  const seed = Number(values.seed);
  const { findings, ...figures } = await runTarget({ name, seconds: Number(values.seconds), seed });
  process.stdout.write(`${JSON.stringify({ target: name, seed, ...figures, findings: findings.length })}\n`);
  for (const { what, input } of findings) {
    const file = join(
      values.save,
      `${name}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`,
    );
    mkdirSync(values.save, { recursive: true });
    writeFileSync(file, input);
    process.stdout.write(
      `${what.split('\n').slice(0, 6).join('\n')}\nagain: npm run fuzz -- ${name} --file ${file}\n`,
    );
  }
  return findings.length;
}

async function runFile(name: string, file: string): Promise<number> {
  const finding = await tryInput(findTarget(name), readFileSync(file));
  process.stdout.write(`${finding ?? 'no finding'}\n`);
  return finding === undefined ? 0 : 1;
}
