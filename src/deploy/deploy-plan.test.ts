import assert from 'node:assert/strict';
import { test } from 'node:test';
import { healthConfig } from '../api/fleet-config.ts';
import { planDeploy } from './deploy-plan.ts';
import { type DeployHostFacts, parseHostFacts } from './host-facts.ts';

const OLD = '/nix/store/0c6bcpn3s8z9q5xgsv8bnrhfm7mfmyqw-nixos-system-web1-v1';
const NEW = '/nix/store/1c6bcpn3s8z9q5xgsv8bnrhfm7mfmyqw-nixos-system-web1-v2';
const request = { toplevel: NEW, release: 'abc', health: healthConfig.parse({}) };
const closure = { system: 'x86_64-linux', size: 1000 };

function facts(more: Partial<DeployHostFacts> = {}): DeployHostFacts {
  const text = `machine=x86_64\nhostname=web1\nsystemd=yes\nbootId=b\ncurrent=${OLD}\nbooted=${OLD}\nprofile=${OLD}
generation=4\nstoreFreeKb=10\nlock=\nvalid=no\nquarantined=\n`;
  return { ...parseHostFacts(text), ...more };
}

function onMachine(system: string, machine: string): string {
  const plan = planDeploy(request, facts({ machine }), { ...closure, system });
  return plan.kind === 'refuse' ? plan.reason : plan.kind;
}

function refusal(more: Partial<DeployHostFacts>, force = false): string {
  const plan = planDeploy({ ...request, force }, facts(more), closure);
  return plan.kind === 'refuse' ? plan.reason : plan.kind;
}

test('parseHostFacts() reads numbers, flags and empty values; unknown lines are ignored', () => {
  const parsed = parseHostFacts('generation=4\nstoreFreeKb=2\nvalid=yes\nfuture=x=y\nlock=\nnoise\n');
  assert.deepEqual(
    [parsed.generation, parsed.storeFreeBytes, parsed.valid, parsed.lock],
    [4, 2048, true, ''],
  );
});

test('planDeploy() copies only what the host does not have', () => {
  assert.deepEqual(planDeploy(request, facts(), closure), {
    kind: 'go',
    copy: true,
    tight: false,
    notes: [],
  });
  assert.deepEqual(planDeploy(request, facts({ valid: true }), closure), {
    kind: 'go',
    copy: false,
    tight: false,
    notes: [],
  });
});

test('planDeploy() leaves a host alone that runs the system and boots it', () => {
  assert.equal(planDeploy(request, facts({ current: NEW, profile: NEW }), closure).kind, 'unchanged');
  assert.equal(planDeploy(request, facts({ current: NEW }), closure).kind, 'go', 'somebody only tested it');
});

test('planDeploy() looks closely when the whole closure may not fit', () => {
  const plan = planDeploy(request, facts({ storeFreeBytes: 999 }), closure);
  assert.ok(plan.kind === 'go' && plan.tight);
});

test('planDeploy() refuses another architecture, but not one that the machine runs too', () => {
  assert.equal(onMachine('aarch64-linux', 'x86_64'), 'wrong-architecture');
  assert.equal(onMachine('i686-linux', 'x86_64'), 'go');
  assert.equal(onMachine('armv7l-linux', 'aarch64'), 'go');
  assert.equal(onMachine('', 'riscv64'), 'go', 'not known here: the host looks itself');
});

test('planDeploy() refuses a quarantined system unless forced, and a host without a system or systemd', () => {
  assert.equal(refusal({ quarantined: 'health-failed' }), 'quarantined');
  assert.equal(refusal({ quarantined: 'health-failed' }, true), 'go');
  assert.equal(refusal({ systemd: false }), 'no-systemd');
  assert.equal(refusal({ current: '' }), 'no-previous-system');
});

test('planDeploy() tells of another deploy and of a system switched by hand', () => {
  const plan = planDeploy(request, facts({ lock: '01abc', current: NEW }), closure);
  assert.equal(plan.kind === 'go' && plan.notes.length, 2);
});
