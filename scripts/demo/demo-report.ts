// What a person reads while the demo goes: one line a step, what was seen below it, the breakdown at the end.
import { messageOf } from '../../src/util/errors.ts';
import type { DemoScene } from './demo-scene.ts';
import type { StepResult } from './run-steps.ts';

export class DemoReport {
  readonly #out: NodeJS.WriteStream;
  readonly #live: boolean;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#live = out.isTTY && process.env['NO_COLOR'] === undefined;
  }

  line(text: string): void {
    this.#out.write(text + '\n');
  }

  begin(title: string): void {
    this.#title = title;
    if (this.#live) this.#out.write(`  … ${title}`);
  }

  done(ms: number, seen: readonly string[]): void {
    this.#finish('✓', ms);
    for (const line of seen) this.line(`      ${line}`);
  }

  failed(ms: number, error: unknown, explanation: readonly string[]): void {
    this.#finish('✗', ms);
    this.line(`      ${messageOf(error)}`);
    for (const line of explanation) this.line(`      | ${line}`);
  }

  summary(results: readonly StepResult[], scene: DemoScene): void {
    const good = results.filter((result) => result.ok).length;
    const total = results.reduce((sum, result) => sum + result.ms, 0);
    this.line(`\n${good} of ${results.length} steps hold, in ${seconds(total)}.`);
    if (scene.breakdown.length > 0) this.line('From git push to all hosts committed:');
    for (const line of scene.breakdown) this.line(`  ${line}`);
  }

  #title = '';

  #finish(mark: string, ms: number): void {
    if (this.#live) this.#out.write('\r\u001B[K');
    this.line(`  ${mark} ${this.#title} (${seconds(ms)})`);
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
