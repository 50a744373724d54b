import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fingerprint, formatNarInfo, MAX_NARINFO_BYTES, parseNarInfo } from './narinfo.ts';
import { parsePublicKey, verifyText } from './signature.ts';

const VECTORS = path.join(import.meta.dirname, '../../test/vectors/nix');
const WRITTEN_BY_NIX = readFileSync(path.join(VECTORS, 'tree.narinfo'), 'utf8');
const PUBLIC_KEY = 'vector-1:uF5bfNxVefpr35Xq5qzcR9MzH2bVi519qegX8rOpPgQ=';

test('parseNarInfo() and formatNarInfo() keep what Nix wrote', () => {
  assert.equal(formatNarInfo(parseNarInfo(WRITTEN_BY_NIX)), WRITTEN_BY_NIX);
});

test("fingerprint() is what Nix's signature covers", () => {
  const info = parseNarInfo(WRITTEN_BY_NIX);
  const keys = [parsePublicKey(PUBLIC_KEY)];
  assert.ok(verifyText(keys, fingerprint(info), info.signatures[0] ?? ''));
  assert.ok(!verifyText(keys, fingerprint({ ...info, narSize: info.narSize + 1 }), info.signatures[0] ?? ''));
});

test('parseNarInfo() reads a missing compression as bzip2 and an unknown deriver as none', () => {
  const info = parseNarInfo(
    WRITTEN_BY_NIX.replace('Compression: zstd\n', '').replace('Sig:', 'Deriver: unknown-deriver\nSig:'),
  );
  assert.deepEqual([info.compression, info.deriver], ['bzip2', undefined]);
});

const REFUSED: readonly [string, (text: string) => string][] = [
  ['nothing', () => ''],
  ['a last line without end', (text) => text.trimEnd()],
  ['a line without key', (text) => `${text}nonsense\n`],
  ['a missing StorePath', (text) => text.replace(/StorePath:.*\n/, '')],
  ['a missing URL', (text) => text.replace(/URL:.*\n/, '')],
  ['a missing NarHash', (text) => text.replace(/NarHash:.*\n/, '')],
  ['a NarSize of zero', (text) => text.replace(/NarSize: \d+/, 'NarSize: 0')],
  ['a negative NarSize', (text) => text.replace(/NarSize: \d+/, 'NarSize: -5')],
  ['a NarSize beyond 2^53', (text) => text.replace(/NarSize: \d+/, 'NarSize: 9007199254740993')],
  ['a key twice', (text) => `${text}URL: nar/other.nar\n`],
  ['a reference outside the store', (text) => text.replace('References:', 'References: ../../etc/passwd')],
  ['a hash of the wrong length', (text) => text.replace(/NarHash: .*/, 'NarHash: sha256:abc')],
  ['a store path in another store', (text) => text.replace('StorePath: /nix/store', 'StorePath: /gnu/store')],
  ['too many signatures', (text) => text + 'Sig: a:b\n'.repeat(64)],
  ['too much text', (text) => text + `X: ${'y'.repeat(MAX_NARINFO_BYTES)}\n`],
];

for (const [what, change] of REFUSED) {
  test(`parseNarInfo() refuses ${what}`, () => {
    assert.throws(() => parseNarInfo(change(WRITTEN_BY_NIX)), { code: 'narinfo_invalid' });
  });
}
