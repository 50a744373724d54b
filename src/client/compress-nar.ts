// A store path as a compressed NAR, ready to send: hashed on both sides, in memory when small, else in a private file.
import { createHash, type Hash as Hasher } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { constants, createZstdCompress, zstdCompress } from 'node:zlib';
import { readNarNode } from '../effects/nar-files.ts';
import type { PathInfo } from '../effects/path-info.ts';
import { equalHashes, type Hash } from '../nix/hash.ts';
import { writeNar } from '../nix/nar-writer.ts';
import { changedOnDisk } from './read-nar.ts';

export interface CompressedNar extends AsyncDisposable {
  readonly fileHash: Hash;
  readonly fileSize: number;
  open(): Readable | Uint8Array;
}

/** Larger NARs go through a file, so that memory does not grow with them. */
const IN_MEMORY_BYTES = 8 * 1024 * 1024;
const LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 3 } };
const compress = promisify(zstdCompress);

/** Compresses the path's NAR with zstd; a NAR that is not what the store's database says is refused. */
export async function compressNar(
  info: PathInfo,
  realPath: string,
  signal?: AbortSignal,
): Promise<CompressedNar> {
  const nar = Readable.from(writeNar(await readNarNode(realPath)), { objectMode: true });
  const hasher = createHash('sha256');
  const packed =
    info.narSize <= IN_MEMORY_BYTES
      ? await compressInMemory(nar, hasher, info)
      : await compressToFile(nar, hasher, signal);
  if (equalHashes({ algo: 'sha256', bytes: hasher.digest() }, info.narHash)) return packed;
  await packed[Symbol.asyncDispose]();
  throw changedOnDisk(info);
}

async function compressInMemory(nar: Readable, hasher: Hasher, info: PathInfo): Promise<CompressedNar> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of nar as AsyncIterable<Uint8Array>) {
    hasher.update(chunk);
    chunks.push(chunk);
    size += chunk.length;
    if (size > info.narSize) throw changedOnDisk(info);
  }
  const bytes = await compress(Buffer.concat(chunks), LEVEL);
  return {
    fileHash: { algo: 'sha256', bytes: createHash('sha256').update(bytes).digest() },
    fileSize: bytes.length,
    open: () => bytes,
    [Symbol.asyncDispose]: async () => undefined,
  };
}

async function compressToFile(nar: Readable, hasher: Hasher, signal?: AbortSignal): Promise<CompressedNar> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-push-'));
  const remove = async (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const file = path.join(folder, 'nar.zst');
    const fileHasher = createHash('sha256');
    const sizes = { bytes: 0 };
    const sink = createWriteStream(file, { mode: 0o600 });
    const stages = [
      nar,
      tapping(hasher, { bytes: 0 }),
      createZstdCompress(LEVEL),
      tapping(fileHasher, sizes),
      sink,
    ];
    await pipeline(stages, signal === undefined ? {} : { signal });
    return {
      fileHash: { algo: 'sha256', bytes: fileHasher.digest() },
      fileSize: sizes.bytes,
      open: () => createReadStream(file, { highWaterMark: 256 * 1024 }),
      [Symbol.asyncDispose]: remove,
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

function tapping(hasher: Hasher, count: { bytes: number }): Transform {
  return new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      hasher.update(chunk);
      count.bytes += chunk.length;
      done(null, chunk);
    },
  });
}
