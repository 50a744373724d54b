// Our formats against the real nix: what one writes, the other reads, on trees and keys made for the occasion.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { readNarNode } from '../../src/effects/nar-files.ts';
import { readNarPieces } from '../../src/effects/nar-pieces.ts';
import { parsePathInfos } from '../../src/effects/path-info.ts';
import { formatDerivation, parseDerivation } from '../../src/nix/derivation.ts';
import { formatHash, parseHash } from '../../src/nix/hash.ts';
import { parseLogLine } from '../../src/nix/log-event.ts';
import { NarReader } from '../../src/nix/nar-reader.ts';
import { writeNar } from '../../src/nix/nar-writer.ts';
import { fingerprint, parseNarInfo } from '../../src/nix/narinfo.ts';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  verifyText,
} from '../../src/nix/signature.ts';
import { contentAddressedPath } from '../../src/nix/store-path.ts';

const home = mkdtempSync(path.join(tmpdir(), 'slipway-interop-'));
const store = `local?root=${home}/store`;
const env = {
  ...process.env,
  HOME: home,
  NIX_CONFIG:
    'experimental-features = nix-command flakes\nsubstituters =\nbuild-users-group =\nsandbox = false',
};
after(() => {
  execFileSync('chmod', ['-R', 'u+w', home]);
  rmSync(home, { recursive: true, force: true });
});

function run(...argv: readonly string[]): Buffer {
  const [file = '', ...args] = argv;
  return execFileSync(file, args, { env, maxBuffer: 256 * 1024 * 1024, stdio: ['ignore', 'pipe', 'pipe'] });
}
const runText = (...argv: readonly string[]): string =>
  run(...argv)
    .toString()
    .trim();

function makeTree(): string {
  const tree = path.join(home, 'tree');
  mkdirSync(path.join(tree, 'deep/er/still'), { recursive: true });
  writeFileSync(path.join(tree, 'empty'), '');
  writeFileSync(path.join(tree, 'large'), randomBytes(3_000_001));
  writeFileSync(path.join(tree, 'deep/ÿ-name'), 'bytes, not code points, sort names');
  writeFileSync(path.join(tree, 'deep/z'), 'z');
  writeFileSync(path.join(tree, 'deep/Z'), 'Z');
  for (let size = 0; size < 20; size++) writeFileSync(path.join(tree, `size-${size}`), randomBytes(size));
  writeFileSync(path.join(tree, 'program'), '#!/bin/sh\n');
  chmodSync(path.join(tree, 'program'), 0o755);
  symlinkSync('../nowhere', path.join(tree, 'deep/link'));
  return tree;
}
const tree = makeTree();
const added = runText('nix', '--store', store, 'store', 'add-path', tree, '--name', 'tree');

test('writeNar() writes a tree byte for byte as nix-store --dump', async () => {
  const ours = Buffer.concat(await Array.fromAsync(writeNar(await readNarNode(tree))));
  assert.ok(ours.equals(run('nix-store', '--dump', tree)));
});

test('readNarPieces() gives the bytes of nix-store --dump', () => {
  const pieces = Array.from(readNarPieces(tree), (piece) => Buffer.from(piece));
  assert.ok(Buffer.concat(pieces).equals(run('nix-store', '--dump', tree)));
  for (const name of ['program', 'deep/link', 'empty'])
    assert.ok(
      Buffer.concat([...readNarPieces(path.join(tree, name))]).equals(
        run('nix-store', '--dump', path.join(tree, name)),
      ),
    );
});

test('NarReader accepts what nix-store --dump writes', () => {
  const reader = new NarReader();
  const nar = run('nix-store', '--dump', tree);
  for (let at = 0; at < nar.length; at += 4096) reader.write(nar.subarray(at, at + 4096));
  reader.end();
  assert.equal(reader.size, nar.length);
});

test('hashes read and spell as nix hash does', () => {
  const spellings = (['--base16', '--base32', '--base64', '--sri'] as const).map((flag) =>
    runText('nix', 'hash', 'path', flag, tree),
  );
  const [hex = '', nix32 = '', base64 = '', sri = ''] = spellings;
  for (const text of [hex, nix32, base64]) assert.equal(formatHash(parseHash(text, 'sha256'), 'sri'), sri);
  assert.equal(formatHash(parseHash(sri), 'nix32'), `sha256:${nix32}`);
});

test('contentAddressedPath() names what nix store add-path names', () => {
  const hash = parseHash(runText('nix', 'hash', 'path', '--sri', tree));
  assert.equal(
    contentAddressedPath({ name: 'tree', address: { method: 'nar', hash }, references: [] }),
    added,
  );
});

test('contentAddressedPath() names texts with references as builtins.toFile does', () => {
  const inner = runText('nix', '--store', store, 'eval', '--raw', '--expr', 'builtins.toFile "inner" "x"');
  const outer = runText(
    'nix',
    '--store',
    store,
    'eval',
    '--raw',
    '--expr',
    'builtins.toFile "outer" "see ${builtins.toFile "inner" "x"}"',
  );
  const hash = parseHash(runText('nix', 'hash', 'file', '--sri', path.join(home, 'store', outer)));
  const [reference] = parsePathInfos(runText('nix', '--store', store, 'path-info', '--json', inner));
  assert.ok(reference);
  assert.equal(
    contentAddressedPath({ name: 'outer', address: { method: 'text', hash }, references: [reference.path] }),
    outer,
  );
});

test('nix accepts our signature and we accept its', () => {
  const secret = generateSecretKey('interop-1');
  const keyFile = path.join(home, 'secret');
  writeFileSync(keyFile, secret, { mode: 0o600 });
  const publicKey = publicKeyOf(parseSecretKey(secret));
  assert.equal(
    execFileSync('nix', ['key', 'convert-secret-to-public'], { env, input: secret }).toString().trim(),
    publicKey,
  );

  run('nix', '--store', store, 'store', 'sign', '-k', keyFile, added);
  const [info] = parsePathInfos(runText('nix', '--store', store, 'path-info', '--json', added));
  assert.ok(info);
  const facts = { ...info, storePath: info.path };
  assert.ok(
    info.signatures.some((signature) =>
      verifyText([parsePublicKey(publicKey)], fingerprint(facts), signature),
    ),
  );
  assert.ok(info.signatures.includes(signText(parseSecretKey(secret), fingerprint(facts))));
});

test('parseNarInfo() reads what nix copy writes into a binary cache', () => {
  run('nix', 'copy', '--store', store, '--to', `file://${home}/cache?compression=zstd`, added);
  const info = parseNarInfo(readFileSync(path.join(home, 'cache', `${added.slice(11, 43)}.narinfo`), 'utf8'));
  assert.deepEqual([info.storePath, info.compression], [added, 'zstd']);
});

test('parseDerivation() and formatDerivation() keep the bytes of a .drv that nix wrote', () => {
  const expression = `(derivation {
    name = "odd"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "man" ];
    args = [ "-c" "printf 'a\\tb\\\\c\\n\\"' > $out" ]; text = "line\\nline\\r\\ttab \${"$"}{x}"; dep = builtins.toFile "in" "x";
  }).drvPath`;
  const drvPath = runText('nix', '--store', store, 'eval', '--raw', '--expr', expression);
  const written = readFileSync(path.join(home, 'store', drvPath), 'utf8');
  assert.equal(formatDerivation(parseDerivation(written)), written);
});

test('parseLogLine() understands every line of a real nix with internal-json', () => {
  const argv = [
    'copy',
    '--log-format',
    'internal-json',
    '-v',
    '--store',
    store,
    '--to',
    `file://${home}/cache2`,
    added,
  ];
  const stderr = execFileSync('sh', ['-c', 'exec nix "$@" 2>&1', 'sh', ...argv], { env }).toString();
  const events = stderr.trim().split('\n').map(parseLogLine);
  assert.ok(
    events.some((event) => event.kind === 'start' && event.type === 'copy-path' && event.fields[0] === added),
  );
  assert.deepEqual(
    events.filter((event) => event.kind === 'text'),
    [],
  );
});
