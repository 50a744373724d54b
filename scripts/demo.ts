// `make demo`: boots three real hosts on this machine and takes them through the whole way of a commit, step by step.
// Leaves the status page up until Ctrl-C. With --once it ends by itself; with --json its last output is one JSON line.
import { parseArgs } from 'node:util';
import { DemoReport } from './demo/demo-report.ts';
import { openDemoScene } from './demo/demo-scene.ts';
import { DEMO_STEPS, FLEET_UP } from './demo/demo-steps.ts';
import { runSteps } from './demo/run-steps.ts';

const { values } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    port: { type: 'string', default: '0' },
  },
});

process.exitCode = await demo();

async function demo(): Promise<number> {
  const report = new DemoReport(values.json ? process.stderr : process.stdout);
  if (process.getuid?.() !== 0) {
    report.line('The demo boots real hosts, and that needs root: sudo make demo');
    return 26;
  }
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => ended.abort());
  await using scene = openDemoScene(Number(values.port), ended.signal);
  const results = await runSteps([FLEET_UP, ...DEMO_STEPS], scene, report, ended.signal);
  const ok = results.every((result) => result.ok);
  report.summary(results, scene);
  if (!values.once && !ended.signal.aborted && scene.pageUrl !== undefined) {
    report.line(`\nThe status page stays at ${scene.pageUrl} until Ctrl-C.`);
    // A signal alone does not keep the program alive.
    const alive = setInterval(() => undefined, 60_000);
    await new Promise((resolve) => ended.signal.addEventListener('abort', resolve, { once: true }));
    clearInterval(alive);
  }
  if (values.json) process.stdout.write(JSON.stringify({ ok, steps: results }) + '\n');
  return ok ? 0 : 1;
}
