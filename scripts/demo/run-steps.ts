// Runs the steps of the demo one after the other; after a failure the rest is not tried, but listed.
import { messageOf } from '../../src/util/errors.ts';
import type { DemoReport } from './demo-report.ts';
import type { DemoScene } from './demo-scene.ts';

export interface DemoStep {
  readonly name: string;
  /** What a person sees happen, in one sentence. */
  readonly title: string;
  /** Throws when something is not as it must be; answers what was seen, for the person. */
  readonly run: (scene: DemoScene) => Promise<readonly string[]>;
}

export interface StepResult {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly error?: string;
}

export async function runSteps(
  steps: readonly DemoStep[],
  scene: DemoScene,
  report: DemoReport,
  signal: AbortSignal,
): Promise<StepResult[]> {
  const results: StepResult[] = [];
  for (const step of steps) {
    const blocked = signal.aborted || results.some((result) => !result.ok);
    results.push(blocked ? notRun(step) : await runStep(step, scene, report));
  }
  return results;
}

async function runStep(step: DemoStep, scene: DemoScene, report: DemoReport): Promise<StepResult> {
  report.begin(step.title);
  const start = performance.now();
  const ms = (): number => Math.round(performance.now() - start);
  try {
    const seen = await step.run(scene);
    report.done(ms(), seen);
    return { name: step.name, ok: true, ms: ms() };
  } catch (error) {
    report.failed(ms(), error, await scene.explain());
    return { name: step.name, ok: false, ms: ms(), error: messageOf(error) };
  }
}

function notRun(step: DemoStep): StepResult {
  return { name: step.name, ok: false, ms: 0, error: 'not run: the step before it failed' };
}
