// Stage evaluate, and the evaluation of the release commit: hosts side by side, each told as it comes.
import type { EmitRunEvent } from '../api/run-events.ts';
import type { Nix } from '../effects/nix-cli.ts';
import { defaultEvaluationLimits, evaluateHosts, type HostResult, type HostWork } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import { describeEvaluation, explainFlake, nextAfterEvaluation } from './flake-failure.ts';
import type { FlakeSource } from './flake-source.ts';
import {
  type HostFacts,
  parseHostFacts,
  parseSourceHostFacts,
  releaseHostExpression,
  sourceHostExpression,
  type SourceHostFacts,
} from './host-facts.ts';
import { readFleet } from './read-fleet.ts';
import type { RunOptions } from './run-options.ts';
import type { RunRecorder } from './run-recorder.ts';

export interface EvaluateContext {
  readonly nix: Nix;
  readonly options: RunOptions;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
}

/** Which hosts there are. A flake that does not evaluate is `evaluation_failed` with Nix's own reason. */
export async function discoverFleet(source: FlakeSource, context: EvaluateContext): Promise<FleetFacts> {
  const { nix, signal, recorder, options } = context;
  const { memory: memoryLimit, timeoutMs } = options.limits ?? defaultEvaluationLimits();
  const bounds = { signal, memoryLimit, timeoutMs };
  try {
    return await recorder.outside('nix-evaluate', async () => await readFleet(nix, source, bounds));
  } catch (error) {
    throw explainFlake(error);
  }
}

/** Which secrets each host of the source uses. */
export async function evaluateSource(
  source: FlakeSource,
  hosts: readonly string[],
  context: EvaluateContext,
): Promise<HostResult<SourceHostFacts>[]> {
  const expression = (host: string): string => sourceHostExpression(source, host);
  return await evaluateAll(hosts, context, { expression, parse: parseSourceHostFacts });
}

/** The toplevel and the secrets of each host of the release commit. */
export async function evaluateRelease(
  release: FlakeSource,
  hosts: readonly string[],
  context: EvaluateContext,
): Promise<HostResult<HostFacts>[]> {
  const expression = (host: string): string => releaseHostExpression(release, host);
  return await evaluateAll(hosts, context, { expression, parse: parseHostFacts, toplevel: toplevelOf });
}

function toplevelOf(facts: HostFacts): string {
  return facts.outPath;
}

async function evaluateAll<T>(
  hosts: readonly string[],
  context: EvaluateContext,
  work: Pick<HostWork<T>, 'expression' | 'parse'> & { readonly toplevel?: (value: T) => string },
): Promise<HostResult<T>[]> {
  const { nix, signal, recorder, options } = context;
  const limits = options.limits ?? defaultEvaluationLimits();
  const onStart = (host: string): void => recorder.emit({ kind: 'host', host, phase: 'evaluating' });
  const onResult = (result: HostResult<T>): void => {
    const toplevel = result.ok ? work.toplevel?.(result.value) : undefined;
    tellResult(result, toplevel, recorder.emit);
  };
  return await recorder.outside(
    'nix-evaluate',
    async () => await evaluateHosts(nix, hosts, { ...work, limits, signal, onStart, onResult }),
  );
}

function tellResult(result: HostResult<unknown>, toplevel: string | undefined, emit: EmitRunEvent): void {
  const { host, ms } = result;
  if (result.ok)
    return emit({ kind: 'host', host, phase: 'evaluated', ms, ...(toplevel !== undefined && { toplevel }) });
  emit({ kind: 'host', host, phase: 'failed', note: firstLine(result.error.message), ms });
  const { code } = result.error;
  emit({
    kind: 'problem',
    stage: 'evaluate',
    host,
    code,
    message: `The evaluation of ${host} failed: ${describeEvaluation(result.error)}`,
    next:
      result.error.next ??
      nextAfterEvaluation(result.error, `nixosConfigurations.${host}.config.system.build.toplevel`),
  });
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}
