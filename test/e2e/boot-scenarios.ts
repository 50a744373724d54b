// The boot trials of `make test-boot`: what is deployed, how it is disturbed, and how it must end.
import type { DeployPhase } from '../../src/api/deploy-state.ts';
import type { DeployTimeouts } from '../../src/deploy/deploy-request.ts';
import type { Fault } from './faulty-system.ts';
import type { WorldProcess } from './lab/world-process.ts';
import type { BootMachine } from './qemu/boot-machine.ts';

export interface Disturbed {
  readonly machine: BootMachine;
  readonly client: WorldProcess;
  readonly old: string;
  readonly untilPhase: (phase: DeployPhase) => Promise<unknown>;
}

export interface BootScenario {
  readonly name: string;
  readonly ends: readonly [phase: DeployPhase, reason: string];
  readonly faults?: readonly Fault[];
  /** The guest's initrd: `a` and `b` work. */
  readonly initrd?: 'b' | 'panics' | 'hangs';
  /** How its installer names entries: NixOS' older way, or by content with boot counting. */
  readonly names?: 'generations' | 'hashes';
  readonly timeouts?: Partial<DeployTimeouts>;
  readonly confirm?: boolean;
  /** How many seconds the new system must be healthy; default 2. */
  readonly stable?: number;
  readonly quarantined?: boolean;
  /** The client does not live to report. */
  readonly silent?: boolean;
  readonly prepare?: (machine: BootMachine) => Promise<unknown>;
  readonly disturb?: (what: Disturbed) => Promise<void>;
}

const GOOD: readonly BootScenario[] = [
  { name: 'good kernel', ends: ['COMMITTED', ''] },
  { name: 'good kernel, entries by hash with boot counting', names: 'hashes', ends: ['COMMITTED', ''] },
];

const BAD: readonly BootScenario[] = [
  { name: 'kernel panics', initrd: 'panics', quarantined: true, ends: ['ROLLED_BACK', 'fell-back'] },
  {
    name: 'initrd hangs, somebody pulls the plug',
    initrd: 'hangs',
    quarantined: true,
    ends: ['ROLLED_BACK', 'fell-back'],
    disturb: async ({ client, machine }) => {
      await client.waitForLine(/^phase rebooting/, 240_000);
      await machine.untilConsole('lab: this initrd hangs');
      await machine.powerCut();
    },
  },
  {
    name: 'boots, but fails its checks',
    faults: ['unit-fails'],
    quarantined: true,
    ends: ['ROLLED_BACK', 'health-failed'],
  },
  {
    name: 'nobody confirms',
    timeouts: { confirm: 5 },
    silent: true,
    ends: ['ROLLED_BACK', 'confirm-timeout'],
    disturb: async ({ client }) => {
      await client.waitForLine(/^phase rebooting/, 240_000);
      client.kill('SIGKILL');
    },
  },
];

function cut(phase: DeployPhase, more: Omit<BootScenario, 'name' | 'disturb'>): BootScenario {
  return {
    name: `power cut in ${phase}`,
    ...more,
    disturb: async ({ machine, untilPhase }) => {
      await untilPhase(phase);
      await machine.powerCut();
    },
  };
}

const CUT: readonly BootScenario[] = [
  cut('STAGING', {
    prepare: async (machine) => await machine.shell('touch /run/slow-boot'),
    ends: ['ROLLED_BACK', 'interrupted'],
  }),
  {
    name: 'power cut in REBOOTING',
    ends: ['COMMITTED', ''],
    disturb: async ({ machine, client }) => {
      await client.waitForLine(/^phase rebooting/, 240_000);
      await machine.powerCut(); // the loader was told: it tries it in this boot
    },
  },
  // stable: whoever looks for the phase tries to log in meanwhile, and one try at a host that boots can take 20 s
  cut('BOOT_TRIAL', { stable: 60, quarantined: true, ends: ['ROLLED_BACK', 'rebooted-in-trial'] }),
  cut('COMMITTING', { faults: ['slow-boot'], ends: ['ROLLED_BACK', 'rebooted-in-commit'] }),
];

export const BOOT_SCENARIOS: BootScenario[] = [...GOOD, ...BAD, ...CUT];
