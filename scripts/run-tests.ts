// Runs every test of the house with node:test: the static checks, then unit, architecture, contract and e2e files.
// The runner's closing lines are the last output; the exit code is not zero when anything failed.
// Usage: run-tests.ts [PATH PREFIX]…
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { compiledCode } from '../test/e2e/lab/compiled-code.ts';

/** In this order: what fails fast comes first. */
const GROUPS = ['test/checks/*.test.ts', 'test/*.test.ts', 'src/**/*.test.ts', 'test/contract/*.test.ts'];
/** Real hosts, real nix: these need root for their namespaces. */
const ROOT_GROUPS = ['test/e2e/*.test.ts'];
/** A test that takes longer hangs. */
const TEST_TIMEOUT_MS = 240_000;
/** So does a run: the runner has no limit for a file whose tests are over and whose children are not. */
const RUN_TIMEOUT_MS = 40 * 60_000;

process.exitCode = await runTests(process.argv.slice(2));

async function runTests(prefixes: readonly string[]): Promise<number> {
  const asRoot = process.getuid?.() === 0;
  if (!asRoot) process.stderr.write('Not root: the end-to-end tests (test/e2e) are left out.\n');
  const files = (asRoot ? [...GROUPS, ...ROOT_GROUPS] : GROUPS).flatMap((group) =>
    globSync(group).toSorted(),
  );
  const wanted = files.filter(
    (file) => prefixes.length === 0 || prefixes.some((prefix) => file.startsWith(prefix)),
  );
  if (wanted.length === 0) {
    process.stderr.write(`No test file begins with ${prefixes.join(' or ')}.\n`);
    return 2;
  }
  return await runNode([
    '--test',
    '--test-reporter=spec',
    `--test-timeout=${TEST_TIMEOUT_MS}`,
    '--test-concurrency=3',
    ...wanted,
  ]);
}

/** The runner stays in our process group, so that Ctrl-C and a kill of the group reach it and the tests. */
async function runNode(args: readonly string[]): Promise<number> {
  const env = { ...process.env, NODE_COMPILE_CACHE: compiledCode() };
  const child = spawn(process.execPath, args, { stdio: 'inherit', env });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const limit = setTimeout(() => {
    process.stderr.write(`The tests did not end within ${RUN_TIMEOUT_MS / 60_000} minutes: ended.\n`);
    child.kill('SIGTERM');
  }, RUN_TIMEOUT_MS);
  return await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  }).finally(() => clearTimeout(limit));
}
