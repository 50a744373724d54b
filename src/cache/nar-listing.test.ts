import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeNar, type NarNode } from '../nix/nar-writer.ts';
import { listNar } from './nar-listing.ts';

function file(text: string, executable = false): NarNode {
  async function* contents(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(Buffer.from(text));
  }
  return { type: 'regular', executable, size: text.length, contents };
}

function directory(nodes: Record<string, NarNode>): NarNode {
  async function* entries() {
    for (const [name, node] of Object.entries(nodes)) yield await Promise.resolve({ name, node });
  }
  return { type: 'directory', entries };
}

async function bytesOf(node: NarNode): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeNar(node)) parts.push(part);
  return Buffer.concat(parts);
}

async function* inPieces(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 7) yield await Promise.resolve(bytes.subarray(at, at + 7));
}

test('listNar() lists every kind of node, with the place of the contents', async () => {
  const nar = await bytesOf(
    directory({
      bin: directory({ hello: file('#!/bin/sh', true) }),
      empty: directory({}),
      link: { type: 'symlink', target: 'bin/hello' },
      note: file('text'),
    }),
  );
  const offset = (text: string): number => nar.indexOf(text);
  assert.deepEqual(JSON.parse((await listNar(inPieces(nar))) ?? ''), {
    version: 1,
    root: {
      type: 'directory',
      entries: {
        bin: {
          type: 'directory',
          entries: { hello: { type: 'regular', size: 9, executable: true, narOffset: offset('#!/bin/sh') } },
        },
        empty: { type: 'directory', entries: {} },
        link: { type: 'symlink', target: 'bin/hello' },
        note: { type: 'regular', size: 4, narOffset: nar.lastIndexOf('text') },
      },
    },
  });
});

test('listNar() lists a NAR that is one file, and files with odd names', async () => {
  const single = await listNar(inPieces(await bytesOf(file('x'))));
  assert.deepEqual(JSON.parse(single ?? ''), {
    version: 1,
    root: { type: 'regular', size: 1, narOffset: 96 },
  });
  const odd =
    (await listNar(inPieces(await bytesOf(directory(Object.fromEntries([['__proto__', file('x')]])))))) ?? '';
  assert.ok(odd.includes('"__proto__":{"type":"regular"'));
});

test('listNar() refuses what is no NAR', async () => {
  await assert.rejects(listNar(inPieces(Buffer.from('not a NAR at all'))), /NAR/);
});
