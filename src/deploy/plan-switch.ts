// Decides how a host gets to a new system: live, or by a boot trial, because kernel, initrd and what NixOS forbids to
// switch live begin with a boot. Pure; preflight, push deploys and agents ask the same question.
import type { RebootPolicy } from '../api/fleet-config.ts';
import type { DeployRequest } from './deploy-request.ts';
import type { DeployHostFacts } from './host-facts.ts';

export type SwitchPlan =
  | { readonly way: 'live' | 'boot-trial'; readonly notes: readonly string[] }
  | { readonly way: 'refuse'; readonly reason: string; readonly detail: string };

export type SwitchFacts = Pick<
  DeployHostFacts,
  'rebootFor' | 'liveForbidden' | 'bootProtection' | 'noBootProtection'
>;

export const DEFAULT_REBOOT: RebootPolicy = 'when-needed';

export function planSwitch(
  { operation = 'trial', profile, reboot = DEFAULT_REBOOT }: DeployRequest,
  facts: SwitchFacts,
): SwitchPlan {
  if (profile !== undefined) return live();
  if (operation === 'boot') return live('no trial protects the next boot: --boot was asked for');
  const why = whyReboot(facts);
  if (operation === 'test' || why === '') return live();
  if (reboot === 'when-needed') return byBoot(why, facts);
  if (reboot === 'never')
    return refuse(
      'reboot-required',
      `It needs a reboot (${why}), and this host's policy is never to reboot.`,
    );
  if (facts.liveForbidden === '')
    return live(`${why}: in force from the next boot on, and that boot is not on trial`);
  const detail = `It cannot be switched to while another system runs: ${facts.liveForbidden}.`;
  return refuse('reboot-required', detail);
}

function byBoot(why: string, { bootProtection, noBootProtection }: SwitchFacts): SwitchPlan {
  if (bootProtection === 'none')
    return refuse(
      'no-boot-protection',
      `It needs a reboot (${why}), and a bad one could not be undone. ${noBootProtection}`,
    );
  return {
    way: 'boot-trial',
    notes: [`needs a reboot (${why}): the host tries it with one boot, and boots back if that fails`],
  };
}

function whyReboot({ rebootFor, liveForbidden }: SwitchFacts): string {
  const parts = rebootFor.length === 0 ? [] : [`changed: ${rebootFor.join(', ')}`];
  return [...parts, ...(liveForbidden === '' ? [] : [liveForbidden])].join('; ');
}

function live(...notes: string[]): SwitchPlan {
  return { way: 'live', notes };
}

function refuse(reason: string, detail: string): SwitchPlan {
  return { way: 'refuse', reason, detail };
}
