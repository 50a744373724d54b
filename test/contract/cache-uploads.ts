// Makes NARs and narinfos and sends them, well or badly, the way `nix copy` does.
import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { formatBase32 } from '../../src/nix/base32.ts';
import { writeNar, type NarNode } from '../../src/nix/nar-writer.ts';

export interface TestPath {
  readonly storePath: string;
  readonly hash: string;
  readonly nar: Buffer;
  /** The file as it is uploaded. */
  readonly file: Buffer;
  /** `nar/<file hash>.nar.zst` */
  readonly url: string;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export class Uploader {
  readonly #cache: string;
  readonly #token: string;

  constructor(cache: string, token: string) {
    this.#cache = cache;
    this.#token = token;
  }

  async put(path: string, body: Uint8Array | string, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(`${this.#cache}/${path}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${this.#token}`, ...headers },
      body: typeof body === 'string' ? body : new Uint8Array(body),
    });
    return { status: response.status, text: await response.text() };
  }

  async get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> {
    return await fetch(`${this.#cache}/${path}`, {
      method,
      headers: { authorization: `Bearer ${this.#token}`, ...headers },
    });
  }

  /** NAR, then narinfo; the answer of the first that was refused, else of the narinfo. */
  async push(path: TestPath, changes: Record<string, string | undefined> = {}): Promise<Answer> {
    const nar = await this.put(path.url, path.file);
    return nar.status === 200 ? await this.put(`${path.hash}.narinfo`, narInfo(path, changes)) : nar;
  }
}

/** A path whose hash part follows from `name`, holding one file. */
export async function testPath(
  name: string,
  contents: Buffer,
  pack: (nar: Buffer) => Buffer = (nar) => zstdCompressSync(nar),
): Promise<TestPath> {
  const nar = await narOf(fileNode(contents));
  return { ...narFile(nar, pack(nar)), ...pathNamed(name) };
}

export function narFile(nar: Buffer, file: Buffer): Pick<TestPath, 'nar' | 'file' | 'url'> {
  return { nar, file, url: `nar/${nix32(file)}.nar.zst` };
}

export function pathNamed(name: string): Pick<TestPath, 'storePath' | 'hash'> {
  const hash = formatBase32(createHash('sha256').update(name).digest().subarray(0, 20));
  return { storePath: `/nix/store/${hash}-${name}`, hash };
}

/** A narinfo for the path; `changes` replaces fields, `undefined` leaves one out. */
export function narInfo(path: TestPath, changes: Record<string, string | undefined> = {}): string {
  const fields: Record<string, string | undefined> = {
    StorePath: path.storePath,
    URL: path.url,
    Compression: 'zstd',
    FileHash: `sha256:${nix32(path.file)}`,
    FileSize: String(path.file.length),
    NarHash: `sha256:${nix32(path.nar)}`,
    NarSize: String(path.nar.length),
    References: '',
    ...changes,
  };
  return Object.entries(fields)
    .flatMap(([key, value]) => (value === undefined ? [] : [`${key}: ${value}\n`]))
    .join('');
}

export async function narOf(node: NarNode): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of writeNar(node)) parts.push(part);
  return Buffer.concat(parts);
}

export function fileNode(contents: Buffer): NarNode {
  async function* read(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(contents);
  }
  return { type: 'regular', executable: false, size: contents.length, contents: read };
}

/** Reproducible bytes that do not compress. */
export function noise(length: number, seed: string): Buffer {
  const blocks: Buffer[] = [];
  for (let n = 0; n * 32 < length; n++) blocks.push(createHash('sha256').update(`${seed} ${n}`).digest());
  return Buffer.concat(blocks).subarray(0, length);
}

export function nix32(bytes: Uint8Array): string {
  return formatBase32(createHash('sha256').update(bytes).digest());
}
