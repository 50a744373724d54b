// `slipway secrets edit`, and editors whose keys need the `age` program: the plaintext is in RAM, for its owner alone, and
// gone afterwards. The editor is a script; the hardware key a plugin that speaks age's plugin protocol.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { bech32 } from '@scure/base';

const MAIN = path.join(import.meta.dirname, '../../src/cli/main.ts');
const NIX_CONFIG = 'experimental-features = nix-command flakes\nsubstituters =\n';
const FLAKE = `{
  outputs = { self }: let fleet = builtins.fromJSON (builtins.readFile ./fleet.json); in {
    nixosConfigurations.web1.config.age.secrets = { };
    slipway.secrets = { inherit (fleet) editors rekeyer; };
  };
}
`;
/** Wraps the file key by XOR: no secret, but every step of recipient-v1 and identity-v1. */
const PLUGIN = `#!${process.execPath}
const { createInterface } = require('node:readline');
const flip = (text) => Buffer.from(Buffer.from(text, 'base64').map((b) => b ^ 0x42)).toString('base64').replace(/=+$/, '');
const mode = process.argv[2].split('=')[1];
const bodies = []; let last = ''; let told = false;
createInterface({ input: process.stdin }).on('line', (line) => {
  if (line.startsWith('-> ')) { last = line.slice(3); return; }
  if (line !== '' && (last.startsWith('wrap-file-key') || / xor$/.test(last))) bodies.push(line);
  if (last === 'ok' && told) { process.stdout.write('-> done\\n\\n'); process.exit(0); }
  if (last === 'done' && !told) {
    told = true;
    const head = mode === 'recipient-v1' ? '-> recipient-stanza 0 xor' : '-> file-key 0';
    process.stdout.write(head + '\\n' + flip(bodies[0]) + '\\n');
  }
});
`;

let dir = '';
let repository = '';
let env: NodeJS.ProcessEnv = {};

function slipway(args: readonly string[], more: NodeJS.ProcessEnv = {}, input = ''): ReturnType<typeof run> {
  return run([...args, '--repository', repository], { ...env, ...more }, input);
}

function run(
  args: readonly string[],
  variables: NodeJS.ProcessEnv,
  input: string,
): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, 'secrets', ...args], { input, env: variables, encoding: 'utf8' });
}

function keygen(name: string, passphrase = ''): string {
  const file = path.join(dir, name);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-C', name, '-f', file]);
  return readFileSync(`${file}.pub`, 'utf8').trim();
}

function writeFleet(editors: readonly string[]): void {
  const rekeyer = readFileSync(path.join(dir, 'rekey.pub'), 'utf8').trim();
  writeFileSync(path.join(repository, 'fleet.json'), JSON.stringify({ editors, rekeyer }));
  const git = ['-C', repository, '-c', 'user.name=t', '-c', 'user.email=t@localhost'];
  execFileSync('git', [...git, 'add', '.']);
  execFileSync('git', [...git, 'commit', '-q', '--allow-empty', '-m', 'change']);
}

/** An editor that notes what it sees, then runs the words. */
function editor(words: string): string {
  const file = path.join(dir, 'editor.sh');
  const notes = path.join(dir, 'notes');
  writeFileSync(
    file,
    `#!/bin/sh\n{ echo "$1"; stat -c %a "$1"; stat -c %a "$(dirname "$1")"; stat -f -c %T "$1"; cat "$1"; } >${notes}\n${words}\n`,
  );
  chmodSync(file, 0o755);
  return file;
}

function notes(): string[] {
  return readFileSync(path.join(dir, 'notes'), 'utf8').split('\n');
}

function open(key: string, name = 'secrets/db.age'): string {
  return execFileSync('age', ['-d', '-i', path.join(dir, key), path.join(repository, name)], {
    encoding: 'utf8',
    stdio: 'pipe',
    env,
  });
}

let editorKey = '';
before(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'slipway-edit-test-'));
  repository = path.join(dir, 'fleet');
  mkdirSync(repository);
  mkdirSync(path.join(dir, 'bin'));
  writeFileSync(path.join(dir, 'bin/age-plugin-xor'), PLUGIN);
  chmodSync(path.join(dir, 'bin/age-plugin-xor'), 0o755);
  env = {
    ...process.env,
    NIX_CONFIG,
    NO_COLOR: '1',
    HOME: dir,
    PATH: `${path.join(dir, 'bin')}:${process.env['PATH'] ?? ''}`,
  };
  delete env['VISUAL'];
  delete env['XDG_RUNTIME_DIR'];
  delete env['RULES'];
  editorKey = keygen('editor');
  keygen('rekey');
  writeFileSync(path.join(repository, 'flake.nix'), FLAKE);
  execFileSync('git', ['init', '-q', '-b', 'main', repository]);
  writeFleet([editorKey]);
});
after(() => rmSync(dir, { recursive: true, force: true }));

const identity = (): string[] => ['--identity', path.join(dir, 'editor')];

test('slipway secrets edit shows the plaintext in RAM, 0600, and writes what was made of it', () => {
  assert.equal(slipway(['put', 'secrets/db.age', '--armor'], {}, 'old value\n').status, 0);
  const answer = slipway(['edit', 'secrets/db.age', ...identity()], {
    EDITOR: editor('echo "new value" >"$1"'),
  });
  assert.equal(answer.status, 0, answer.stderr);
  const [file = '', mode, folderMode, fileSystem, seen] = notes();
  assert.deepEqual([mode, folderMode, fileSystem, seen], ['600', '700', 'tmpfs', 'old value']);
  assert.throws(() => readFileSync(file), /ENOENT/);
  assert.throws(() => readdirSync(path.dirname(file)), /ENOENT/);
  assert.equal(open('editor'), 'new value\n');
  assert.equal(open('rekey'), 'new value\n');
  assert.match(
    readFileSync(path.join(repository, 'secrets/db.age'), 'utf8'),
    /^-----BEGIN AGE/,
    'still armored',
  );
});

test('slipway secrets edit leaves the file alone when nothing changed or the editor failed', () => {
  const before = readFileSync(path.join(repository, 'secrets/db.age'));
  const same = slipway(['edit', 'secrets/db.age', ...identity()], { EDITOR: editor(':') });
  assert.deepEqual([same.status, same.stdout], [0, 'Nothing changed.\n']);
  const failed = slipway(['edit', 'secrets/db.age', ...identity()], {
    EDITOR: editor('echo x >"$1"; exit 3'),
  });
  assert.match(failed.stderr, /exit code 3; nothing was changed/);
  const emptied = slipway(['edit', 'secrets/db.age', ...identity()], { EDITOR: editor(': >"$1"') });
  assert.match(emptied.stderr, /empty/);
  assert.deepEqual(readFileSync(path.join(repository, 'secrets/db.age')), before);
  assert.throws(() => readdirSync(path.dirname(notes()[0] ?? '')), /ENOENT/);
});

test('slipway secrets edit makes a new secret, and takes an editor with options', () => {
  const script = editor('echo made >"$2"');
  writeFileSync(script, readFileSync(script, 'utf8').replaceAll('"$1"', '"$2"'));
  const answer = slipway(['edit', 'secrets/new.age', ...identity()], { EDITOR: `${script} -x` });
  assert.equal(answer.status, 0, answer.stderr);
  assert.equal(open('editor', 'secrets/new.age'), 'made\n');
});

test('slipway secrets edit refuses a stranger, a hostile path and a damaged file, and starts no editor', () => {
  keygen('stranger');
  rmSync(path.join(dir, 'notes'), { force: true });
  const stranger = ['--identity', path.join(dir, 'stranger')];
  const refused = slipway(['edit', 'secrets/db.age', ...stranger], { EDITOR: editor('echo x >"$1"') });
  assert.match(refused.stderr, /No identity opens the file/);
  for (const name of ['../db.age', 'a b.age', '.git/db.age', '.slipway/policy.toml']) {
    assert.notEqual(slipway(['edit', name, ...identity()], { EDITOR: editor(':') }).status, 0, name);
  }
  writeFileSync(path.join(repository, 'secrets/bad.age'), 'not an age file');
  assert.notEqual(slipway(['edit', 'secrets/bad.age', ...identity()], { EDITOR: editor(':') }).status, 0);
  assert.throws(notes, /ENOENT/);
});

test('slipway secrets edit ends with its terminal and leaves no plaintext', () => {
  const answer = slipway(['edit', 'secrets/db.age', ...identity()], {
    EDITOR: editor('kill -HUP $PPID; kill -HUP $(ps -o ppid= -p $PPID); sleep 2; echo late >"$1"'),
  });
  assert.notEqual(answer.status, 0);
  assert.throws(() => readFileSync(notes()[0] ?? ''), /ENOENT/);
});

test('slipway secrets put and edit follow secrets.nix where it names the file', () => {
  const other = keygen('other');
  const rules = `{ "secrets/ruled.age" = { publicKeys = [ "${other}" ]; armor = true; }; }`;
  writeFileSync(path.join(repository, 'secrets.nix'), rules);
  assert.equal(slipway(['put', 'secrets/ruled.age'], {}, 'for other alone\n').status, 0);
  assert.equal(open('other', 'secrets/ruled.age'), 'for other alone\n');
  assert.equal(open('rekey', 'secrets/ruled.age'), 'for other alone\n');
  assert.throws(() => open('editor', 'secrets/ruled.age'));
  assert.match(readFileSync(path.join(repository, 'secrets/ruled.age'), 'utf8'), /^-----BEGIN AGE/);
  writeFleet([]);
  const put = slipway(['put', 'secrets/any.age'], {}, 'for all of secrets.nix');
  assert.equal(put.status, 0, put.stderr);
  assert.equal(open('other', 'secrets/any.age'), 'for all of secrets.nix');
  writeFleet([editorKey]);
  writeFileSync(path.join(repository, 'secrets.nix'), '{ "secrets/ruled.age" = { keys = [ ]; }; }');
  assert.match(slipway(['put', 'secrets/ruled.age'], {}, 'x').stderr, /another shape than agenix/);
  rmSync(path.join(repository, 'secrets.nix'));
});

test('slipway secrets put and edit work for an editor with a hardware key, through age and its plugin', () => {
  const data = bech32.toWords(Buffer.from('xor'));
  const recipient = bech32.encode('age1xor', data, false);
  writeFileSync(
    path.join(dir, 'hardware'),
    `${bech32.encode('age-plugin-xor-', data, false).toUpperCase()}\n`,
  );
  writeFleet([editorKey, recipient]);
  const put = slipway(['put', 'secrets/hard.age'], {}, 'hard\n');
  assert.equal(put.status, 0, put.stderr);
  for (const key of ['hardware', 'editor', 'rekey'])
    assert.equal(open(key, 'secrets/hard.age'), 'hard\n', key);
  const edit = slipway(['edit', 'secrets/hard.age', '--identity', path.join(dir, 'hardware')], {
    EDITOR: editor('echo harder >"$1"'),
  });
  assert.equal(edit.status, 0, edit.stderr);
  assert.equal(open('hardware', 'secrets/hard.age'), 'harder\n');
});
