// What may go wrong during a deploy, and when: each entry is one disturbance at one state, with the ends it may have.
import type { DeployPhase } from '../../src/api/deploy-state.ts';
import type { DeployScene } from './deploy-scene.ts';
import type { Fault } from './faulty-system.ts';
import type { WorldHost } from './lab/world-host.ts';
import type { WorldProcess } from './lab/world-process.ts';

export interface Disturbed {
  readonly scene: DeployScene;
  readonly host: WorldHost;
  readonly client: WorldProcess;
  readonly old: string;
  /** Milliseconds, from the seed. */
  readonly delay: number;
}

export interface Scenario {
  readonly name: string;
  /** What is wrong with the new system itself. */
  readonly faults: readonly Fault[];
  /** The state in which `disturb` happens. */
  readonly at?: DeployPhase;
  readonly prepare?: (host: WorldHost) => Promise<void>;
  readonly disturb?: (what: Disturbed) => Promise<void>;
  readonly cleanUp?: (host: WorldHost, old: string) => Promise<void>;
  readonly ends: readonly DeployPhase[];
  /** The client dies, so nobody reports. */
  readonly silent?: boolean;
  /** A hook that runs on the host before anything changes. */
  readonly hook?: string;
  /** The new system takes the host to another address, where the client is told to confirm. */
  readonly moves?: boolean;
  /** Somebody else's profile is left alone: only the running system and the boot default are ours. */
  readonly foreignProfile?: boolean;
}

const ANY: readonly DeployPhase[] = ['COMMITTED', 'ROLLED_BACK', 'REFUSED'];
const STATE = '/var/lib/slipway';
const KEYS = '/root/.ssh/authorized_keys';

/** How each state is made to last long enough to be met. */
const SLOW: readonly (Pick<Scenario, 'faults' | 'prepare' | 'cleanUp' | 'hook'> & {
  readonly phase: DeployPhase;
  readonly name?: string;
})[] = [
  { phase: 'PREPARED', faults: [], prepare: holdSwitchLock, cleanUp: releaseSwitchLock },
  { phase: 'PREPARED', name: 'a hook', faults: [], hook: 'sleep 4' },
  { phase: 'ACTIVATING', faults: ['slow-activation'] },
  { phase: 'TRIAL', faults: [] },
  { phase: 'AWAIT_CONFIRM', faults: [] },
  { phase: 'COMMITTING', faults: ['slow-boot'] },
  {
    phase: 'ROLLING_BACK',
    faults: ['slow-activation', 'unit-fails'],
    prepare: slowRollback,
    cleanUp: normalRollback,
  },
];

const DISTURBANCES: readonly {
  readonly name: string;
  readonly act: (what: Disturbed) => Promise<void>;
  readonly silent?: boolean;
}[] = [
  {
    name: 'killed client',
    silent: true,
    act: async ({ client }) => await Promise.resolve(client.kill('SIGKILL')),
  },
  { name: 'killed runner', act: async ({ host }) => await killRunner(host) },
  { name: 'power cut', act: async ({ host }) => await host.powerCut() },
  { name: 'reboot', act: async ({ host }) => await host.reboot() },
  { name: 'cut network', act: cutNetwork },
  { name: 'flapping network', act: flapNetwork },
];

export function listScenarios(): Scenario[] {
  return [...disturbances(), ...badSystems(), ...badSurroundings()];
}

function disturbances(): Scenario[] {
  return SLOW.flatMap(({ phase, name: state = phase, ...slow }) =>
    DISTURBANCES.map(({ name, act, silent = false }) => ({
      name: `${name} in ${state}`,
      at: phase,
      ...slow,
      disturb: phase === 'AWAIT_CONFIRM' ? unconfirmed(act, silent) : act,
      ends: ANY,
      silent,
    })),
  );
}

function badSystems(): Scenario[] {
  const bad: [Fault, DeployPhase][] = [
    ['unit-fails', 'ROLLED_BACK'],
    ['activate-fails', 'ROLLED_BACK'],
    ['check-fails', 'ROLLED_BACK'],
    ['init-changed', 'REFUSED'],
    ['cuts-network', 'ROLLED_BACK'],
    ['stops-sshd', 'ROLLED_BACK'],
    ['moves-address', 'ROLLED_BACK'],
    ['hangs', 'ROLLED_BACK'],
    ['bootloader-fails', 'ROLLED_BACK'],
    ['restarts-sshd', 'COMMITTED'],
    ['reexecs', 'COMMITTED'],
  ];
  return bad.map(([fault, end]) => ({
    name: `new system ${fault}`,
    faults: [fault],
    ends: [end],
    ...(fault === 'stops-sshd' && {
      cleanUp: async (host) => void (await host.shell('systemctl start ssh')),
    }),
  }));
}

function badSurroundings(): Scenario[] {
  const full = { prepare: smallDisk, disturb: fillDisk, cleanUp: usualDisk, ends: ANY };
  return [
    { name: 'full disk in ACTIVATING', at: 'ACTIVATING', faults: ['slow-activation'], ...full },
    { name: 'full disk in TRIAL', at: 'TRIAL', faults: [], ...full },
    { name: 'full disk in COMMITTING', at: 'COMMITTING', faults: ['slow-boot'], ...full },
    {
      name: 'changed address',
      faults: ['moves-address'],
      moves: true,
      cleanUp: moveBack,
      ends: ['COMMITTED'],
    },
    {
      name: 'changed address and a failing check',
      faults: ['moves-address', 'unit-fails'],
      moves: true,
      ends: ['ROLLED_BACK'],
    },
    {
      name: 'nixos-rebuild at work at the commit',
      faults: [],
      at: 'TRIAL',
      disturb: async ({ host }) => await holdSwitchLock(host),
      cleanUp: releaseSwitchLock,
      ends: ['COMMITTED'],
    },
    {
      name: 'nixos-rebuild at work before',
      faults: [],
      prepare: holdSwitchLock,
      at: 'PREPARED',
      disturb: async ({ host }) => await releaseSwitchLock(host),
      ends: ['COMMITTED'],
    },
    {
      name: 'nixos-rebuild sets the profile in TRIAL',
      at: 'TRIAL',
      faults: [],
      disturb: async ({ host, old }) => {
        await host.shell(`rm -rf /root/other; cp -r ${old} /root/other; nix-env -p /nix/var/nix/profiles/system \\
          --set "$(nix store add-path /root/other)"`);
      },
      cleanUp: async (host, old) => {
        await host.shell(`nix-env -p /nix/var/nix/profiles/system --set ${old}`);
      },
      foreignProfile: true,
      ends: ['ROLLED_BACK'],
    },
  ];
}

/** The operator plugs the cable of the old network in again. */
/** For good: going back to this system in a later scenario must not move the host again. */
async function moveBack(host: WorldHost): Promise<void> {
  await host.shell(
    `readlink -f /run/current-system >>/etc/lab-moved-back; rm -f /run/lab-address
     ip address flush dev eth0; ip address add ${host.address}/24 dev eth0`,
  );
}

async function smallDisk(host: WorldHost): Promise<void> {
  await host.shell(`mkdir -p ${STATE}; mount -t tmpfs -o size=1m tmpfs ${STATE}`);
}

async function fillDisk({ host }: Disturbed): Promise<void> {
  await host.exec(['dd', 'if=/dev/zero', `of=${STATE}/filler`, 'bs=4k']);
}

async function usualDisk(host: WorldHost): Promise<void> {
  await host.shell(`umount -l ${STATE}`);
}

/** Keeps the client from confirming, so that the state lasts; afterwards it may again. */
function unconfirmed(act: (what: Disturbed) => Promise<void>, silent: boolean) {
  return async (what: Disturbed): Promise<void> => {
    await act(what);
    if (!silent) await what.host.shell(`[ ! -e ${KEYS}.off ] || mv ${KEYS}.off ${KEYS}`);
  };
}

async function killRunner(host: WorldHost): Promise<void> {
  await host.exec(['systemctl', 'kill', '--kill-who=main', '--signal=KILL', 'slipway-activate-*.service']);
}

async function cutNetwork({ host, delay }: Disturbed): Promise<void> {
  await host.cutNetwork();
  await new Promise((resolve) => setTimeout(resolve, 2_000 + delay));
  await host.restoreNetwork();
}

async function flapNetwork({ host, delay }: Disturbed): Promise<void> {
  for (let turn = 0; turn < 4; turn++) {
    await host.cutNetwork();
    await new Promise((resolve) => setTimeout(resolve, delay / 3));
    await host.restoreNetwork();
    await new Promise((resolve) => setTimeout(resolve, delay / 2));
  }
}

async function holdSwitchLock(host: WorldHost): Promise<void> {
  await host.shell(`mkdir -p /run/nixos; systemctl reset-failed lab-rebuild 2>/dev/null || true
    systemd-run -q --collect --unit=lab-rebuild flock /run/nixos/switch-to-configuration.lock sleep 6`);
}

async function releaseSwitchLock(host: WorldHost): Promise<void> {
  await host.exec(['systemctl', 'stop', 'lab-rebuild.service']);
}

/** A rollback that takes two seconds longer, by a drop-in for the units that switch. */
async function slowRollback(host: WorldHost): Promise<void> {
  const wait = `if grep -qs ROLLING_BACK ${STATE}/deploy/*/state.json; then sleep 2; fi`;
  await host.shell(`mkdir -p /run/systemd/system/slipway-switch-.service.d
    printf '[Service]\\nExecStartPre=/bin/sh -c "${wait}"\\n' >/run/systemd/system/slipway-switch-.service.d/slow.conf
    systemctl daemon-reload`);
}

async function normalRollback(host: WorldHost): Promise<void> {
  await host.shell('rm -rf /run/systemd/system/slipway-switch-.service.d; systemctl daemon-reload');
}
