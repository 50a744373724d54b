import assert from 'node:assert/strict';
import { test } from 'node:test';
import { healthConfig, type RebootPolicy } from '../api/fleet-config.ts';
import type { DeployRequest } from './deploy-request.ts';
import { planSwitch, type SwitchFacts } from './plan-switch.ts';

const request: DeployRequest = { toplevel: '/nix/store/x', release: 'r', health: healthConfig.parse({}) };
const same: SwitchFacts = {
  rebootFor: [],
  liveForbidden: '',
  bootProtection: 'oneshot',
  noBootProtection: '',
};
const kernel: SwitchFacts = { ...same, rebootFor: ['kernel', 'initrd'] };
const inhibited: SwitchFacts = { ...same, liveForbidden: 'dbus changes' };
const bare = { bootProtection: 'none', noBootProtection: 'GRUB cannot try a system once.' } as const;

function way(facts: SwitchFacts, more: Partial<DeployRequest> = {}): string {
  const plan = planSwitch({ ...request, ...more }, facts);
  return plan.way === 'refuse' ? plan.reason : plan.way;
}

function notes(facts: SwitchFacts, reboot: RebootPolicy): string {
  return JSON.stringify(planSwitch({ ...request, reboot }, facts));
}

const TABLE: readonly [what: string, facts: SwitchFacts, ways: Record<RebootPolicy, string>][] = [
  ['nothing of it needs a boot', same, { 'when-needed': 'live', later: 'live', never: 'live' }],
  [
    'nothing needs a boot, no protection',
    { ...same, ...bare },
    { 'when-needed': 'live', later: 'live', never: 'live' },
  ],
  ['a kernel', kernel, { 'when-needed': 'boot-trial', later: 'live', never: 'reboot-required' }],
  [
    'a kernel, no protection',
    { ...kernel, ...bare },
    { 'when-needed': 'no-boot-protection', later: 'live', never: 'reboot-required' },
  ],
  [
    'an inhibitor',
    inhibited,
    { 'when-needed': 'boot-trial', later: 'reboot-required', never: 'reboot-required' },
  ],
  [
    'an inhibitor, no protection',
    { ...inhibited, ...bare },
    { 'when-needed': 'no-boot-protection', later: 'reboot-required', never: 'reboot-required' },
  ],
];

for (const [what, facts, ways] of TABLE) {
  test(`planSwitch(): ${what}`, () => {
    for (const [reboot, expected] of Object.entries(ways))
      assert.equal(way(facts, { reboot: reboot as RebootPolicy }), expected, reboot);
    assert.equal(way(facts), ways['when-needed'], 'the default');
  });
}

test('planSwitch() leaves alone what was asked for by name', () => {
  assert.equal(way({ ...kernel, ...bare }, { operation: 'boot' }), 'live');
  assert.equal(way(kernel, { operation: 'test' }), 'live');
  assert.equal(way(kernel, { profile: { profile: 'hello', user: 'root' } }), 'live');
});

test('planSwitch() says why, and what it means', () => {
  assert.match(notes(kernel, 'when-needed'), /kernel, initrd.*boots back/);
  assert.match(notes(kernel, 'later'), /not on trial/);
  assert.match(notes({ ...kernel, ...bare }, 'when-needed'), /GRUB cannot/);
});
