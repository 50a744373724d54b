// Requests as Attic's client writes them, byte for byte (client/src/api/mod.rs), and answers with all that is compared.
import { createHash } from 'node:crypto';
import { signJwt } from '../../src/auth/json-web-token.ts';
import { ATTIC_CLAIM, parseAtticKey, type AtticVerifier } from '../../src/auth/attic-token.ts';
import type { CacheServer } from './cache-server.ts';
import { fileNode, narOf, pathNamed } from './cache-uploads.ts';

export const ATTIC_KEY: AtticVerifier = {
  key: parseAtticKey('HS256', Buffer.alloc(64, 7).toString('base64')),
};

export interface AtticAnswer {
  readonly status: number;
  readonly type: string | null;
  readonly headers: Headers;
  readonly text: string;
}

/** A token as `atticadm make-token` makes it. */
export function atticToken(caches: Record<string, object>, claims: Record<string, unknown> = {}): string {
  const now = Math.floor(Date.now() / 1000);
  return signJwt(
    { exp: now + 3600, nbf: now, sub: 'ci', [ATTIC_CLAIM]: { caches }, ...claims },
    ATTIC_KEY.key,
  );
}

export class AtticClient {
  readonly #url: string;
  readonly #token: string | undefined;

  constructor(server: Pick<CacheServer, 'url'>, token?: string) {
    this.#url = server.url;
    this.#token = token;
  }

  async send(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<AtticAnswer> {
    const json = body === undefined || typeof body === 'string' || body instanceof Uint8Array;
    const response = await fetch(`${this.#url}${path}`, {
      method,
      headers: {
        'user-agent': 'Attic/attic-client (test)',
        ...(this.#token !== undefined && { authorization: `bearer ${this.#token}` }),
        ...(!json && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body instanceof Uint8Array
        ? { body: inChunks(body), duplex: 'half' }
        : body !== undefined && { body: json ? (body as string) : JSON.stringify(body) }),
    });
    const { status, headers: answered } = response;
    return { status, headers: answered, type: answered.get('content-type'), text: await response.text() };
  }

  async create(name: string, changes: Record<string, unknown> = {}): Promise<AtticAnswer> {
    return await this.send('POST', `/_api/v1/cache-config/${name}`, {
      keypair: 'Generate',
      is_public: false,
      store_dir: '/nix/store',
      priority: 41,
      upstream_cache_key_names: ['cache.nixos.org-1'],
      ...changes,
    });
  }

  /** `preamble`: the description goes in front of the NAR instead of into a header. */
  async upload(info: AtticInfo, nar: Uint8Array, preamble = false): Promise<AtticAnswer> {
    const text = Buffer.from(JSON.stringify(info));
    return preamble
      ? await this.send('PUT', '/_api/v1/upload-path', Buffer.concat([text, nar]), {
          'x-attic-nar-info-preamble-size': String(text.length),
        })
      : await this.send('PUT', '/_api/v1/upload-path', nar, { 'x-attic-nar-info': text.toString() });
  }
}

export interface AtticInfo extends Record<string, unknown> {
  readonly store_path_hash: string;
}

/** Uploads are streamed: Transfer-Encoding chunked, no length. */
function inChunks(body: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start: (stream) => {
      for (let at = 0; at < body.length; at += 60_000) stream.enqueue(body.slice(at, at + 60_000));
      stream.close();
    },
  });
}

/** A path with one file, described as the client describes it. */
export async function atticPath(
  cache: string,
  name: string,
  contents: Buffer,
  changes: Record<string, unknown> = {},
): Promise<{ readonly info: AtticInfo; readonly nar: Buffer }> {
  const nar = await narOf(fileNode(contents));
  const { storePath, hash } = pathNamed(name);
  const info = {
    cache,
    store_path_hash: hash,
    store_path: storePath,
    references: [],
    system: null,
    deriver: null,
    sigs: [],
    ca: null,
    nar_hash: `sha256:${createHash('sha256').update(nar).digest('hex')}`,
    nar_size: nar.length,
    ...changes,
  };
  return { info, nar };
}
