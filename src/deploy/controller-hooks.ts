// Runs hooks on the machine that deploys: a shell line each, as whoever deploys, with a time limit; what they print
// goes to the log line by line.
import type { Hook, HookResult } from '../api/deploy-hooks.ts';
import { exec } from '../effects/exec.ts';
import { asSlipwayError, isCode } from '../util/errors.ts';

export interface HookRun {
  readonly when: 'before' | 'after';
  /** Variables on top of our own environment. */
  readonly facts: Readonly<Record<string, string>>;
  readonly onLine: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

/** One after the other. Of `before` hooks the first that fails is the last; the failed ones are the answer. */
export async function runControllerHooks(hooks: readonly Hook[], run: HookRun): Promise<HookResult[]> {
  const failed: HookResult[] = [];
  for (const hook of hooks) {
    const exit = await runHook(hook, run);
    if (exit === 0) continue;
    failed.push({ name: hook.name, when: run.when, exit });
    if (run.when === 'before') break;
  }
  return failed;
}

async function runHook({ name, command, timeout }: Hook, run: HookRun): Promise<number> {
  const { when, facts, onLine, signal } = run;
  onLine(`hook ${name} (${when}, here) begins`);
  try {
    const result = await exec(['sh', '-c', command], {
      env: { ...facts, SLIPWAY_WHEN: when, SLIPWAY_HOOK: name },
      timeoutMs: timeout * 1000,
      onStdoutLine: onLine,
      onStderrLine: onLine,
      ...(signal && { signal }),
    });
    if (result.code !== 0) onLine(`hook ${name} ended with ${result.code}`);
    return result.code;
  } catch (error) {
    if (isCode(error, 'cancelled')) throw error;
    onLine(`hook ${name}: ${asSlipwayError(error).message}`);
    return -1;
  }
}

/** `Hook drain failed (exit 3).`, for people. */
export function describeHook({ name, exit }: HookResult, where: string): string {
  return exit === -1
    ? `Hook ${name} ${where} did not end in time, or was not run to its end.`
    : `Hook ${name} ${where} failed (exit ${exit}).`;
}
