import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deployRsOutput, type DeployRsOutput } from '../api/deploy-rs.ts';
import { type DeployRsOverrides, isSystemProfile, planFromDeployRs } from './plan-from-deploy-rs.ts';

const PATH = '/nix/store/0c6bcpn3s8z9q5xgsv8bnrhfm7mfmyqw-activatable-nixos';

function plan(output: object, overrides: DeployRsOverrides = {}): ReturnType<typeof planFromDeployRs> {
  const parsed = deployRsOutput.parse(output);
  return planFromDeployRs(parsed, { login: 'me', overrides, names: namesOf(parsed) });
}

function namesOf(output: DeployRsOutput): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(output.nodes).map(([name, node]) => [name, Object.keys(node.profiles)]),
  );
}

test("planFromDeployRs() reads deploy-rs' example of a system with a user's profile", () => {
  const plans = plan({
    nodes: {
      example: {
        sshOpts: ['-p', '2221'],
        hostname: 'localhost',
        fastConnection: true,
        interactiveSudo: true,
        profiles: {
          system: { sshUser: 'admin', path: PATH, user: 'root' },
          hello: { sshUser: 'hello', path: PATH, user: 'hello' },
        },
      },
    },
  });
  assert.deepEqual(
    plans.map(({ profile, sshUser, target, sshOpts, source, interactiveSudo }) => [
      profile,
      sshUser,
      target.user,
      sshOpts.join(' '),
      source,
      interactiveSudo,
    ]),
    [
      ['hello', 'hello', 'hello', '-p 2221', 'push', true],
      ['system', 'admin', 'root', '-p 2221', 'push', true],
    ],
  );
  assert.deepEqual(
    plans.map(({ target }) => isSystemProfile(target)),
    [false, true],
  );
});

test('planFromDeployRs() merges: command line over profile over node over output', () => {
  const output = {
    sshUser: 'output',
    confirmTimeout: 1,
    activationTimeout: 11,
    autoRollback: false,
    magicRollback: true,
    nodes: {
      a: {
        hostname: 'override',
        sshUser: 'node',
        confirmTimeout: 2,
        magicRollback: false,
        profiles: {
          system: { path: PATH, sshUser: 'profile', sudo: 'doas -u', remoteBuild: true, user: null },
        },
      },
    },
  };
  const expected = {
    sshUser: 'profile',
    target: { profile: 'system', user: 'profile' }, // user is sshUser unless set
    timeouts: { confirm: 2, activation: 11 },
    autoRollback: false,
    confirm: false,
    remoteBuild: true,
    sudo: ['doas', '-u'],
  };
  assert.partialDeepStrictEqual(plan(output)[0], expected);
  const overrides = {
    hostname: 'server',
    sshUser: 'cli',
    user: 'root',
    magicRollback: true,
    confirmTimeout: 0,
  };
  assert.partialDeepStrictEqual(plan(output, overrides)[0], {
    address: 'server',
    sshUser: 'cli',
    target: { user: 'root' },
    confirm: true,
    timeouts: { confirm: 1 }, // nobody can confirm in 0 seconds
  });
});

test('planFromDeployRs() appends sshOpts, the profile first; those of the command line replace them', () => {
  const output = {
    user: 'root',
    sshOpts: ['-a'],
    nodes: { n: { hostname: 'h', sshOpts: ['-b'], profiles: { p: { path: PATH, sshOpts: ['-c'] } } } },
  };
  assert.deepEqual(plan(output)[0]?.sshOpts, ['-c', '-b', '-a']);
  assert.deepEqual(plan(output, { sshOpts: ['-p', '2'] })[0]?.sshOpts, ['-p', '2']);
});

test('planFromDeployRs() keeps profilesOrder, then the rest by name', () => {
  const profiles = Object.fromEntries(['c', 'a', 'b', 'z'].map((name) => [name, { path: PATH }]));
  const node = { hostname: 'h', user: 'root', profilesOrder: ['z', 'b'], profiles };
  assert.deepEqual(
    plan({ nodes: { n: node } }).map(({ profile }) => profile),
    ['z', 'b', 'a', 'c'],
  );
});

test('planFromDeployRs() says where an output is wrong', () => {
  assert.throws(() => plan(nodeWith({ profilesOrder: ['x'] })), /deploy\.nodes\.n\.profilesOrder names x/);
  const twice = { profilesOrder: ['p', 'p'], profiles: { p: { path: PATH } } };
  assert.throws(() => plan(nodeWith(twice)), /names p twice/);
  const nobody = { nodes: { n: { hostname: 'h', profiles: { p: { path: PATH } } } } };
  assert.throws(() => plan(nobody), /deploy\.nodes\.n\.profiles\.p has neither user nor sshUser/);
});

function nodeWith(more: object): object {
  return { nodes: { n: { hostname: 'h', user: 'u', profiles: {}, ...more } } };
}
