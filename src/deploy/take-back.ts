// Undoes a committed deploy because other hosts of the rollout failed: back to what ran before, by its generation.
import type { EmitRunEvent } from '../api/run-events.ts';
import type { Host } from '../effects/host.ts';
import type { DeployOutcome } from './deploy-outcome.ts';
import type { DeployRequest } from './deploy-request.ts';
import { deployToHost } from './deploy-to-host.ts';
import { readGenerations } from './generations.ts';

export interface Committed {
  readonly request: DeployRequest;
  readonly outcome: Extract<DeployOutcome, { readonly kind: 'committed' | 'degraded' }>;
}

/** The outcome that holds then; where nothing was before there is nothing to go back to. */
export async function takeBack(
  host: Host,
  { request, outcome }: Committed,
  emit: EmitRunEvent,
  signal?: AbortSignal,
): Promise<DeployOutcome> {
  const { previous, generation } = outcome.state;
  if (previous === '') return outcome;
  const before = (await readGenerations(host, request.profile)).find(
    (one) => one.toplevel === previous && one.generation < generation,
  );
  const back = {
    ...request,
    toplevel: previous,
    generation: before?.generation ?? 0,
    force: true,
    hooks: { before: [], after: request.hooks?.after ?? [] },
  };
  const ended = await deployToHost(host, back, emit, signal);
  return ended.kind === 'committed' ? { kind: 'taken-back', host: outcome.host, state: ended.state } : ended;
}
