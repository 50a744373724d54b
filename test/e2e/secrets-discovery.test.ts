// The Nix expression that finds a host's secrets, against the real nix and a flake in git: path literals, strings,
// files copied alone, hosts without agenix' module, files that are not there.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { makeKey, seal } from '../../src/secrets/secret-fleet.arbitrary.ts';
import { parseFleetFacts } from '../../src/pipeline/fleet-facts.ts';
import { parseSourceHostFacts, type SourceHostFacts } from '../../src/pipeline/host-facts.ts';
import { secretReaders } from '../../src/pipeline/secret-readers.ts';
import type { HostSecrets } from '../../src/secrets/host-secrets.ts';
import { planSecrets } from '../../src/secrets/plan-secrets.ts';
import { secretsExpression } from '../../src/secrets/secrets-expression.ts';
import type { SourceTree } from '../../src/secrets/source-tree.ts';

const FLAKE = `{
  outputs = { self }: {
    nixosConfigurations = {
      literal.config.age.secrets = {
        db = { file = ./secrets/db.age; owner = "postgres"; group = "postgres"; mode = "0440"; path = "/etc/db"; };
        token.file = ./secrets/token.age;
      };
      strings.config.age.secrets = {
        interpolated.file = "\${self}/secrets/db.age";
        added.file = self + "/secrets/token.age";
      };
      alone.config.age.secrets.db.file = builtins.path { path = ./secrets/db.age; name = "another-name"; };
      bare.config.networking.hostName = "bare";
      absent.config.age.secrets.gone.file = ./secrets/gone.age;
      built.config.age.secrets.made.file =
        derivation { name = "made"; system = "x86_64-linux"; builder = "/bin/sh"; };
      homes.config = {
        age.secrets.token.file = ./secrets/token.age;
        home-manager.users.anna.age.secrets.db = { file = ./secrets/db.age; path = "$XDG_RUNTIME_DIR/agenix/db"; };
        home-manager.users.bob.home.username = "bob";
      };
      broken.config.age.secrets = throw "broken on purpose";
    };
  };
}
`;

let dir = '';
let sourceRoot = '';
const env = {
  ...process.env,
  NIX_CONFIG: 'experimental-features = nix-command flakes\nsubstituters =\n',
};

before(async () => {
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-discovery-'));
  mkdirSync(path.join(dir, 'secrets'));
  writeFileSync(path.join(dir, 'flake.nix'), FLAKE);
  for (const name of ['db', 'token', 'unused']) {
    writeFileSync(path.join(dir, 'secrets', `${name}.age`), await seal(name, makeKey()));
  }
  const git = (...args: string[]): Buffer => execFileSync('git', ['-C', dir, ...args]);
  git('init', '-q');
  git('add', '.');
  git('-c', 'user.name=t', '-c', 'user.email=t@localhost', 'commit', '-q', '-m', 'fleet');
  const metadata = JSON.parse(
    execFileSync('nix', ['flake', 'metadata', '--json', dir], { env, stdio: 'pipe' }).toString(),
  );
  sourceRoot = (metadata as { path: string }).path;
});
after(() => rmSync(dir, { recursive: true, force: true }));

function evaluate(host: string): HostSecrets {
  const argv = ['eval', '--json', `${dir}#nixosConfigurations.${host}`, '--apply', secretsExpression];
  return facts(host, argv).secrets;
}

function facts(host: string, argv: readonly string[]): SourceHostFacts {
  return parseSourceHostFacts(host, JSON.parse(execFileSync('nix', argv, { env, stdio: 'pipe' }).toString()));
}

function source(): SourceTree {
  const paths = execFileSync('git', ['-C', dir, 'ls-files']).toString().trim().split('\n');
  const read = (one: string): Buffer | undefined =>
    paths.includes(one) ? readFileSync(path.join(dir, one)) : undefined;
  return { paths, read: async (wanted) => wanted.map(read) };
}

async function findPaths(host: string): Promise<string[]> {
  const hosts = { [host]: { publicKeys: [makeKey().publicKey], secrets: evaluate(host) } };
  const plan = await planSecrets({ hosts, sourceRoot, source: source() });
  return plan.problems.length > 0
    ? plan.problems.map((problem) => problem.code)
    : plan.items.map((item) => item.path);
}

test('secretsExpression gives where and as whom the host will hold a secret, with agenix’ defaults', () => {
  const { db, token } = evaluate('literal');
  assert.deepEqual(
    [db?.path, db?.owner, db?.group, db?.mode, db?.symlink],
    ['/etc/db', 'postgres', 'postgres', '0440', true],
  );
  assert.deepEqual([token?.path, token?.owner, token?.mode], ['/run/agenix/token', '0', '0400']);
});

test('secretsExpression and planSecrets() map every way to name a file back to the repository', async () => {
  const both = ['secrets/db.age', 'secrets/token.age'];
  assert.deepEqual(await findPaths('literal'), both);
  assert.deepEqual(await findPaths('strings'), both);
  assert.deepEqual(await findPaths('alone'), ['secrets/db.age']);
});

async function warnings(host: string): Promise<string[]> {
  const hosts = { [host]: { publicKeys: [makeKey().publicKey], secrets: evaluate(host) } };
  const plan = await planSecrets({ hosts, sourceRoot, source: source() });
  return plan.warnings.map(({ code, secret }) => `${code} ${secret ?? ''}`);
}

test('planSecrets() warns of a file that is given as text, because it makes the system change with every commit', async () => {
  assert.deepEqual(await warnings('literal'), []);
  assert.deepEqual(await warnings('strings'), ['source_embedded added', 'source_embedded interpolated']);
});

test('planSecrets() leaves a file of another input alone when the fleet says so', async () => {
  const hosts = { built: { publicKeys: [makeKey().publicKey], secrets: evaluate('built') } };
  const request = { hosts, sourceRoot, source: source() };
  const plan = await planSecrets({ ...request, unmanaged: ['*/made'] });
  assert.deepEqual([plan.problems, plan.items], [[], []]);
  assert.deepEqual(
    plan.warnings.map((warning) => warning.code),
    ['file_unmanaged'],
  );
  const other = await planSecrets({ ...request, unmanaged: ['built/other'] });
  assert.equal(other.problems[0]?.code, 'file_outside_repository');
});

test('secretsExpression is tolerant of a host without secrets and of a file that is not there', async () => {
  assert.deepEqual(evaluate('bare'), {});
  assert.deepEqual(await findPaths('bare'), []);
  assert.deepEqual(await findPaths('absent'), ['file_missing']);
});

test('secretsExpression finds the secrets of home-manager users, apart from those of the host', () => {
  const argv = ['eval', '--json', `${dir}#nixosConfigurations.homes`, '--apply', secretsExpression];
  const { secrets, users } = facts('homes', argv);
  assert.deepEqual([Object.keys(secrets), Object.keys(users)], [['token'], ['anna']]);
  assert.equal(users['anna']?.['db']?.path, '$XDG_RUNTIME_DIR/agenix/db');
  const fleet = parseFleetFacts({
    hosts: ['homes'],
    slipway: { hosts: { homes: { publicKey: 'host-key', users: { anna: 'anna-key' } } } },
    nodes: {},
  });
  const readers = secretReaders(fleet, [{ ok: true, host: 'homes', value: { secrets, users }, ms: 1 }]);
  assert.deepEqual(
    Object.entries(readers).map(([name, one]) => [name, one.publicKeys, Object.keys(one.secrets ?? {})]),
    [
      ['homes', ['host-key'], ['token']],
      ['anna@homes', ['anna-key'], ['db']],
    ],
  );
});

test('secretsExpression builds nothing to look at a secret that a derivation makes', async () => {
  assert.equal(evaluate('built')['made']?.built, true);
  assert.deepEqual(await findPaths('built'), ['file_outside_repository']);
});

test('secretsExpression lets a broken host fail by itself', () => {
  assert.throws(() => evaluate('broken'), /broken on purpose/);
});
