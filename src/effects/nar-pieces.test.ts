import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { writeNar } from '../nix/nar-writer.ts';
import { readNarNode } from './nar-files.ts';
import { readNarPieces } from './nar-pieces.ts';

const home = mkdtempSync(path.join(tmpdir(), 'slipway-pieces-'));
after(() => rmSync(home, { recursive: true, force: true }));

/** Every piece is copied: its memory is used again. */
function narOf(tree: string): Buffer {
  return Buffer.concat(Array.from(readNarPieces(tree), (piece) => Buffer.from(piece)));
}

async function assertSame(tree: string): Promise<void> {
  const expected = Buffer.concat(await Array.fromAsync(writeNar(await readNarNode(tree))));
  assert.ok(narOf(tree).equals(expected), tree);
}

test('readNarPieces() gives what writeNar() writes, wherever the pieces end', async () => {
  const tree = path.join(home, 'sizes');
  mkdirSync(tree);
  for (let size = 262_000; size < 262_160; size += 7)
    writeFileSync(path.join(tree, `file-${size}`), Buffer.alloc(size, size % 251));
  for (let n = 0; n < 300; n++) {
    symlinkSync('t'.repeat(4000), path.join(tree, `link-${n}`));
    writeFileSync(path.join(tree, `small-${n}`), `${n}`);
  }
  chmodSync(path.join(tree, 'small-7'), 0o755);
  await assertSame(tree);
});

test('readNarPieces() ends directories that nest deeply', async () => {
  const tree = path.join(home, 'deep');
  const folders = Array.from({ length: 900 }, () => 'd');
  mkdirSync(path.join(tree, ...folders), { recursive: true });
  writeFileSync(path.join(tree, 'd', 'e'), Buffer.alloc(262_144 - 120_000));
  await assertSame(tree);
});

test('readNarPieces() takes names that are not UTF-8, and sorts by bytes', async () => {
  const tree = path.join(home, 'names');
  mkdirSync(tree);
  for (const name of [Buffer.from([0xff]), Buffer.from('ÿ'), Buffer.from('z')])
    writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), name]), name);
  await assertSame(tree);
});

test('readNarPieces() refuses what a store cannot hold', async () => {
  const tree = path.join(home, 'socket');
  mkdirSync(tree);
  const server = createServer().listen(path.join(tree, 'socket'));
  await once(server, 'listening');
  assert.throws(() => narOf(tree), { code: 'invalid', message: /neither a file/ });
  server.close();
});

test('readNarPieces() fails when a file shrinks while it is read', () => {
  const file = path.join(home, 'shrinking');
  writeFileSync(file, Buffer.alloc(1_000_000));
  const pieces = readNarPieces(file);
  pieces.next();
  truncateSync(file, 300_000);
  assert.throws(() => [...pieces], { code: 'invalid', message: /changed while it was read/ });
});
