// `slipway secrets …` as a person runs it, on a flake in git with the real nix, and the real age on the hosts' side.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';

const MAIN = path.join(import.meta.dirname, '../../src/cli/main.ts');
const NIX_CONFIG = 'experimental-features = nix-command flakes\nsubstituters =\n';
const VALUE = 'the value that only hosts may read';

const FLAKE = `{
  outputs = { self }:
    let
      fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
      host = secrets: { config.age.secrets = builtins.mapAttrs (_: file: { inherit file; }) secrets; };
    in {
      nixosConfigurations = {
        web1 = host { db = ./secrets/db.age; shared = ./secrets/shared.age; };
        web2 = host { shared = ./secrets/shared.age; };
      };
      slipway = {
        hosts = builtins.mapAttrs (_: publicKey: { inherit publicKey; }) fleet.hosts;
        secrets = { inherit (fleet) editors rekeyer; };
      };
    };
}
`;

let dir = '';
let repository = '';
const keys = new Map<string, string>();

interface Answer {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function slipway(args: readonly string[], input = ''): Answer {
  const env = { ...process.env, NIX_CONFIG, NO_COLOR: '1' };
  const argv = [MAIN, 'secrets', ...args, '--repository', repository];
  return spawnSync(process.execPath, argv, { input, env, encoding: 'utf8' });
}

function json(answer: Answer): Record<string, unknown> {
  return JSON.parse(answer.stdout) as Record<string, unknown>;
}

function git(...args: string[]): string {
  const identity = ['-c', 'user.name=t', '-c', 'user.email=t@localhost'];
  return execFileSync('git', ['-C', repository, ...identity, ...args], { encoding: 'utf8' }).trim();
}

function commit(): void {
  git('add', '.');
  git('commit', '-q', '-m', 'change');
}

function open(key: string, file: string): string {
  return execFileSync('age', ['-d', '-i', path.join(dir, key), file], { encoding: 'utf8', stdio: 'pipe' });
}

function keygen(name: string): void {
  const file = path.join(dir, name);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file]);
  keys.set(name, readFileSync(`${file}.pub`, 'utf8').trim());
}

function writeFleet(change: Record<string, unknown> = {}): void {
  const hosts = { web1: keys.get('web1'), web2: keys.get('web2') };
  const fleet = { hosts, editors: [keys.get('editor')], rekeyer: keys.get('rekey'), ...change };
  writeFileSync(path.join(repository, 'fleet.json'), JSON.stringify(fleet));
}

before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-secrets-'));
  repository = path.join(dir, 'fleet');
  mkdirSync(repository);
  for (const name of ['web1', 'web2', 'editor', 'rekey', 'stranger']) keygen(name);
  writeFileSync(path.join(repository, 'flake.nix'), FLAKE);
  git('init', '-q', '-b', 'main');
  writeFleet();
  commit();
  for (const name of ['db', 'shared', 'unused']) {
    const answer = slipway(['put', `secrets/${name}.age`], VALUE);
    assert.equal(answer.status, 0, answer.stderr);
  }
  commit();
});
after(() => rmSync(dir, { recursive: true, force: true }));

test('slipway secrets put writes for editors and re-keyer, and says what to do next', () => {
  const answer = slipway(['put', 'secrets/new.age', '--armor'], VALUE);
  assert.match(answer.stdout, /Wrote secrets\/new\.age\. Next: git add/);
  const file = path.join(repository, 'secrets/new.age');
  for (const reader of ['editor', 'rekey']) assert.equal(open(reader, file), VALUE);
  assert.throws(() => open('web1', file), /no identity matched/);
  assert.deepEqual(
    readdirSync(path.join(repository, 'secrets')).filter((name) => name.startsWith('.')),
    [],
  );
  rmSync(file);
});

test('slipway secrets put refuses a hostile path, an empty value and a link out of the repository', () => {
  const outside = path.join(dir, 'outside');
  mkdirSync(outside);
  symlinkSync(outside, path.join(repository, 'link'));
  const refusals: [string, string, RegExp][] = [
    ['../x.age', VALUE, /not normalised/],
    ['a b.age', VALUE, /blank/],
    ['secrets/empty.age', '', /empty/],
    ['link/x.age', VALUE, /symbolic link/],
  ];
  for (const [name, value, message] of refusals) {
    const answer = slipway(['put', name], value);
    assert.equal(answer.status, 2, name);
    assert.match(answer.stderr, message);
    assert.ok(!answer.stderr.includes(VALUE));
  }
  assert.deepEqual(readdirSync(outside), []);
  rmSync(path.join(repository, 'link'));
});

test('slipway secrets list and plan say who reads what, without any key', () => {
  const list = slipway(['list']);
  assert.equal(list.status, 0, list.stderr);
  assert.match(list.stdout, /secrets\/db\.age\s+web1\n/);
  assert.match(list.stdout, /secrets\/shared\.age\s+web1 web2\n/);
  assert.match(list.stdout, /secrets\/unused\.age\s+no host\n/);
  const plan = json(slipway(['plan', '--json']));
  assert.equal(plan['ok'], true);
  assert.deepEqual(plan['leftOut'], ['secrets/unused.age']);
  const [first] = plan['secrets'] as unknown[];
  assert.deepEqual(first, {
    path: 'secrets/db.age',
    action: 'rekey',
    reason: 'new',
    hosts: ['web1'],
    granted: ['web1'],
    revoked: [],
  });
});

test('slipway secrets rekey writes what the hosts can open, and a second run from that release keeps it', () => {
  const output = path.join(dir, 'rekeyed');
  const answer = slipway(['rekey', '--rekey-identity', path.join(dir, 'rekey'), '--output', output]);
  assert.equal(answer.status, 0, answer.stderr);
  assert.match(answer.stdout, /2 re-keyed, 0 kept, 1 left out/);
  assert.equal(open('web1', path.join(output, 'secrets/db.age')), VALUE);
  assert.equal(open('web2', path.join(output, 'secrets/shared.age')), VALUE);
  assert.throws(() => open('editor', path.join(output, 'secrets/db.age')));
  makeReleaseBranch(output);
  const verified = slipway(['verify', '--rekey-identity', path.join(dir, 'rekey')]);
  assert.equal(verified.status, 0, verified.stdout + verified.stderr);
  const again = slipway(['rekey', '--output', path.join(dir, 'again'), '--json']);
  assert.deepEqual(json(again), { ok: true, rekeyed: 0, reused: 2, removed: 1 });
  const tampered = execFileSync('age', ['-r', keys.get('stranger') ?? ''], { input: VALUE });
  writeFileSync(path.join(output, 'secrets/db.age'), tampered);
  makeReleaseBranch(output);
  const wrong = slipway(['verify', '--json']);
  assert.equal(wrong.status, 23);
  assert.match(wrong.stdout, /release_file_differs/);
});

/** The branch `release` with the re-keyed files, as a release commit has them. */
function makeReleaseBranch(output: string): void {
  git('checkout', '-q', '-B', 'release', 'main');
  execFileSync('cp', ['-r', `${output}/.`, repository]);
  git('rm', '-q', '--cached', 'secrets/unused.age');
  rmSync(path.join(repository, 'secrets/unused.age'));
  commit();
  git('checkout', '-q', 'main');
}

test('slipway secrets lists every problem of a commit at once, with the exit code for secrets', () => {
  const ecdsa = path.join(dir, 'ecdsa');
  execFileSync('ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', ecdsa]);
  git('checkout', '-q', '-B', 'bad', 'main');
  writeFleet({ hosts: { web1: readFileSync(`${ecdsa}.pub`, 'utf8').trim() } });
  writeFileSync(path.join(repository, 'secrets/db.age'), 'not an age file');
  git('rm', '-q', 'secrets/shared.age');
  commit();
  const plan = slipway(['plan', '--json', '--release', 'main']);
  assert.equal(plan.status, 23);
  const codes = (json(plan)['problems'] as { code: string }[]).map((problem) => problem.code);
  assert.deepEqual(codes, ['file_missing', 'file_missing', 'host_key_unusable', 'source_malformed']);
  const rekey = slipway([
    'rekey',
    '--rekey-identity',
    path.join(dir, 'rekey'),
    '--output',
    path.join(dir, 'none'),
  ]);
  assert.equal(rekey.status, 23);
  assert.match(rekey.stderr, /4 problems:/);
  assert.throws(() => readdirSync(path.join(dir, 'none')));
  git('checkout', '-q', 'main');
});
