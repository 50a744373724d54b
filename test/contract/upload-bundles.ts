// Makes bundles of Slipway's own upload protocol, well or badly, and sends them.
import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { text } from 'node:stream/consumers';
import {
  BUNDLE_MAGIC,
  formatRecord,
  type BundleRecord,
  type ChunkRecord,
} from '../../src/content/bundle-format.ts';
import { chunkGroups, encodeGroup } from '../../src/content/chunk-frames.ts';
import { ChunkPatcher, plain, type PatchedChunk } from '../../src/content/chunk-patcher.ts';
import { Chunker } from '../../src/content/chunker.ts';
import { encodeFrame } from '../../src/content/frame-codec.ts';
import { Normaliser } from '../../src/content/normaliser.ts';
import { PUSH_HEADER, type BundleAnswer, type UploadFailure } from '../../src/api/slipway-cache-v1.ts';
import { narInfo, type TestPath } from './cache-uploads.ts';

export interface SentChunk extends PatchedChunk {
  readonly frame: Buffer;
}

/** The chunks of a NAR, each with a frame of its own: an uploader is free to do so. */
export async function chunksOf(nar: Buffer): Promise<SentChunk[]> {
  const cut: PatchedChunk[] = [];
  const patcher = new ChunkPatcher();
  const chunker = new Chunker();
  const add = (bytes: Buffer): void => void cut.push(patcher.patch(bytes));
  const normaliser = new Normaliser();
  for (const { bytes, taken } of [normaliser.push(nar), normaliser.end()]) {
    patcher.add(taken);
    chunker.push(bytes, add);
  }
  chunker.end(add);
  return await Promise.all(
    cut.map(async (chunk) => {
      const [encoded] = await encodeGroup([chunk]);
      if (encoded !== undefined) return { ...chunk, frame: encoded.frame };
      const restored = plain(chunk);
      return { ...restored, frame: await encodeFrame(restored.bytes) };
    }),
  );
}

export function begin(path: TestPath, size = path.nar.length): BundleRecord {
  return { kind: 'begin', hash: createHash('sha256').update(path.nar).digest(), size };
}

export function resume(path: TestPath, chunks: number): BundleRecord {
  return { kind: 'resume', hash: createHash('sha256').update(path.nar).digest(), chunks };
}

export function sent(chunk: SentChunk): BundleRecord {
  return { kind: 'frame', chunks: [named(chunk)], frame: chunk.frame };
}

/** All of them in one frame. */
export async function together(chunks: readonly PatchedChunk[]): Promise<BundleRecord> {
  const [encoded, ...more] = await encodeGroup(chunks);
  if (encoded === undefined || more.length > 0) throw new Error('these chunks do not share a frame');
  return { kind: 'frame', chunks: chunks.map(named), frame: encoded.frame };
}

/** In frames as the client makes them: neighbours together. */
export async function framed(chunks: readonly PatchedChunk[]): Promise<BundleRecord[]> {
  const groups = chunkGroups();
  for (const chunk of chunks) groups.add(chunk);
  return await Promise.all(groups.groups.map(together));
}

/** By name only: the server is to have it. */
export function named({ hash, bytes, patches }: PatchedChunk): ChunkRecord {
  return { kind: 'chunk', hash, rawLength: bytes.length, patches };
}

export function pathRecord(path: TestPath, changes: Record<string, string | undefined> = {}): BundleRecord {
  const none = { Compression: 'none', FileHash: undefined, FileSize: undefined };
  return { kind: 'path', narInfo: narInfo(path, { ...none, ...changes }) };
}

export function bundleOf(...records: readonly BundleRecord[]): Buffer {
  return Buffer.concat([BUNDLE_MAGIC, ...records.flatMap((record) => formatRecord(record))]);
}

/** A path as one bundle. */
export async function wholeBundle(path: TestPath): Promise<Buffer> {
  return bundleOf(begin(path), ...(await chunksOf(path.nar)).map(sent), pathRecord(path));
}

export interface UploadAnswer {
  readonly status: number;
  readonly body: Partial<BundleAnswer> & {
    readonly error?: UploadFailure;
    readonly absent?: boolean;
    readonly missing?: readonly string[];
  };
}

interface SlowUpload {
  end(): Promise<UploadAnswer>;
  cut(): void;
}

/** Speaks the protocol to `<server>/_api/slipway/v1/caches/<cache>`. */
export class BundleSender {
  readonly #base: string;
  readonly #token: string | undefined;

  constructor(server: string, cache: string, token?: string) {
    this.#base = `${server}/_api/slipway/v1/caches/${cache}`;
    this.#token = token;
  }

  /** `push`: what the bundles of one push have in common. */
  async send(bundle: Buffer, push?: string): Promise<UploadAnswer> {
    return await this.#json('POST', '/bundles', bundle, push);
  }

  /** Sends all of the bundle but its last byte, which `end` sends. */
  sendSlowly(bundle: Buffer, push: string): SlowUpload {
    const request = httpRequest(`${this.#base}/bundles`, {
      method: 'POST',
      headers: { ...this.#headers(push), 'content-length': bundle.length },
    });
    const answer = new Promise<UploadAnswer>((resolve, reject) => {
      request.once('error', reject);
      request.once('response', (response) => {
        const read = async (): Promise<UploadAnswer> => {
          const body = JSON.parse(await text(response)) as UploadAnswer['body'];
          return { status: response.statusCode ?? 0, body };
        };
        read().then(resolve, reject);
      });
    });
    answer.catch(() => undefined); // of an upload that is cut off
    request.write(bundle.subarray(0, -1));
    return {
      end: async () => {
        request.end(bundle.subarray(-1));
        return await answer;
      },
      cut: () => void request.destroy(),
    };
  }

  async terms(): Promise<UploadAnswer> {
    return await this.#json('GET', '', undefined);
  }

  async missingPaths(question: string): Promise<UploadAnswer> {
    return await this.#json('POST', '/missing-paths', Buffer.from(question));
  }

  /** A letter for each chunk: `h`eld or `m`issing. */
  async missingChunks(chunks: readonly { readonly hash: Buffer }[]): Promise<string> {
    const response = await this.request(
      'POST',
      '/missing-chunks',
      Buffer.concat(chunks.map(({ hash }) => hash)),
    );
    const bytes = [...Buffer.from(await response.arrayBuffer())];
    return response.status === 200
      ? bytes.map((byte) => (byte === 1 ? 'm' : 'h')).join('')
      : String(response.status);
  }

  async request(method: string, action: string, body: Buffer | undefined, push?: string): Promise<Response> {
    return await fetch(`${this.#base}${action}`, {
      method,
      headers: this.#headers(push),
      ...(body && { body: new Uint8Array(body) }),
    });
  }

  #headers(push: string | undefined): Record<string, string> {
    return {
      ...(this.#token !== undefined && { authorization: `Bearer ${this.#token}` }),
      ...(push !== undefined && { [PUSH_HEADER]: push }),
    };
  }

  async #json(
    method: string,
    action: string,
    body: Buffer | undefined,
    push?: string,
  ): Promise<UploadAnswer> {
    const response = await this.request(method, action, body, push);
    return { status: response.status, body: (await response.json()) as UploadAnswer['body'] };
  }
}
