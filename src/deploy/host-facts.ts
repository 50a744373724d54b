// What a host says about itself before a deploy: `key=value` lines of `activate.sh facts`.
import type { Host } from '../effects/host.ts';
import type { ProfileTarget } from './deploy-request.ts';
import { callRunner } from './trial.ts';

export interface DeployHostFacts {
  /** `uname -m`. */
  readonly machine: string;
  readonly hostname: string;
  readonly systemd: boolean;
  readonly bootId: string;
  /** Store paths; empty where there is none. */
  readonly current: string;
  readonly booted: string;
  readonly profile: string;
  /** The profile's generation number; 0: none. */
  readonly generation: number;
  readonly storeFreeBytes: number;
  /** Free on the file system of /boot; 0: unknown. */
  readonly bootFreeBytes: number;
  /** Id of the deploy that holds the host; empty when free. */
  readonly lock: string;
  /** Whether the toplevel in question is complete in the host's store. */
  readonly valid: boolean;
  /** Why the toplevel in question is quarantined; empty when it is not. */
  readonly quarantined: string;
  /** Parts of the toplevel in question that only a boot can change; none while it is not on the host. */
  readonly rebootFor: readonly string[];
  /** Why NixOS forbids to switch to it while another system runs; empty when it does not. */
  readonly liveForbidden: string;
  /** What undoes a boot that fails: `oneshot`, systemd-boot's entry for one boot, or nothing; then why there is nothing. */
  readonly bootProtection: 'oneshot' | 'none';
  readonly noBootProtection: string;
  /** Whether the host knows the user of the profile in question. */
  readonly userKnown: boolean;
}

/** With a profile, `profile` and `generation` are that profile's. */
export async function readHostFacts(
  host: Host,
  toplevel = '',
  profile?: ProfileTarget,
): Promise<DeployHostFacts> {
  const asked = profile === undefined ? [] : [profile.profile, profile.user];
  return parseHostFacts(await callRunner(host, ['facts', ...(toplevel === '' ? [] : [toplevel, ...asked])]));
}

export function parseHostFacts(text: string): DeployHostFacts {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  const value = (key: string): string => values.get(key) ?? '';
  return {
    machine: value('machine'),
    hostname: value('hostname'),
    systemd: value('systemd') === 'yes',
    bootId: value('bootId'),
    current: value('current'),
    booted: value('booted'),
    profile: value('profile'),
    generation: Number(value('generation')) || 0,
    storeFreeBytes: (Number(value('storeFreeKb')) || 0) * 1024,
    bootFreeBytes: (Number(value('bootFreeKb')) || 0) * 1024,
    lock: value('lock'),
    valid: value('valid') === 'yes',
    quarantined: value('quarantined'),
    rebootFor: value('rebootFor')
      .split(',')
      .filter((part) => part !== ''),
    liveForbidden: value('liveForbidden'),
    bootProtection: value('bootProtection') === 'oneshot' ? 'oneshot' : 'none',
    noBootProtection: value('noBootProtection'),
    userKnown: value('userKnown') !== 'no',
  };
}
