// Decides what a deploy to one host does, from what the host and the local store say. Pure; dry run prints it.
import type { DeployHostFacts } from './host-facts.ts';
import type { DeployRequest } from './deploy-request.ts';

export interface ClosureFacts {
  /** The toplevel's `system` (`x86_64-linux`); empty when this machine does not have it. */
  readonly system: string;
  /** Bytes of the whole closure; 0 when unknown. */
  readonly size: number;
}

export type DeployPlan =
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'refuse'; readonly reason: string; readonly detail: string }
  | {
      readonly kind: 'go';
      /** Whether the closure must get there first. */
      readonly copy: boolean;
      /** Whether free space must be looked at closely: there is less than the whole closure needs. */
      readonly tight: boolean;
      /** What a person should know. */
      readonly notes: readonly string[];
    };

export function planDeploy(
  request: DeployRequest,
  facts: DeployHostFacts,
  closure: ClosureFacts,
): DeployPlan {
  if (isInForce(request, facts)) return { kind: 'unchanged' };
  const refusal = findRefusal(request, facts, closure);
  if (refusal !== undefined) return { kind: 'refuse', reason: refusal[0], detail: refusal[1] };
  const copy = !facts.valid;
  return {
    kind: 'go',
    copy,
    tight: copy && facts.storeFreeBytes < closure.size,
    notes: planNotes(request, facts),
  };
}

/** A system must run and be the profile's; of another profile there is only the link. */
function isInForce({ toplevel, profile, operation }: DeployRequest, facts: DeployHostFacts): boolean {
  if (facts.profile !== toplevel && operation !== 'test') return false;
  return profile !== undefined || operation === 'boot' || facts.current === toplevel;
}

function findRefusal(
  request: DeployRequest,
  facts: DeployHostFacts,
  closure: ClosureFacts,
): [reason: string, detail: string] | undefined {
  if (!facts.systemd)
    return ['no-systemd', 'The host does not run systemd, so nothing can watch over a trial.'];
  if (!facts.userKnown)
    return [
      'no-such-user',
      `The profile is for user ${request.profile?.user ?? ''}, whom the host does not know.`,
    ];
  if (facts.current === '' && request.profile === undefined)
    return ['no-previous-system', 'Nothing is at /run/current-system, so there is nothing to go back to.'];
  if (!runsOn(closure.system, facts.machine))
    return ['wrong-architecture', `The system is for ${closure.system}, the host is ${facts.machine}.`];
  if (facts.quarantined !== '' && request.force !== true)
    return ['quarantined', `This system failed here before (${facts.quarantined}).`];
  return undefined;
}

/** The same rule as `runs_here` in host/lib/system.sh. */
function runsOn(system: string, machine: string): boolean {
  const cpu = system.split('-')[0] ?? '';
  if (cpu === '' || cpu === machine) return true;
  if (cpu === 'i686') return machine === 'x86_64';
  return cpu.startsWith('arm') && (machine.startsWith('arm') || machine === 'aarch64');
}

function planNotes(request: DeployRequest, facts: DeployHostFacts): string[] {
  const notes: string[] = [];
  if (facts.lock !== '') notes.push(`deploy ${facts.lock} is at work there; this one waits for it`);
  if (request.profile === undefined && facts.current !== facts.profile && facts.profile !== '')
    notes.push(`the running system ${facts.current} is not the profile's: somebody switched by hand`);
  return notes;
}
