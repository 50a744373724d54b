// A binary cache as others have them: files over plain HTTP, signed by a key of its own, and as broken as a test wants it.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { fingerprint, formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { parseHash } from '../../src/nix/hash.ts';
import { generateSecretKey, parseSecretKey, publicKeyOf, signText } from '../../src/nix/signature.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { fileNode, narOf, nix32, pathNamed } from './cache-uploads.ts';

export interface UpstreamPath {
  readonly hash: string;
  readonly storePath: string;
  readonly nar: Buffer;
  /** As it lies on the upstream. */
  readonly file: string;
}

/** What the upstream does with a request instead of serving the file; `false`: serve it. */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse) => boolean;

export interface UpstreamServer extends AsyncDisposable {
  readonly url: string;
  readonly publicKey: string;
  /** URLs in the order of asking. */
  readonly requests: string[];
  readonly files: Map<string, Buffer>;
  misbehave: Misbehaviour | undefined;
  /** `name:base64`, by the upstream's key. */
  sign(message: string): string;
  /** Puts a path there that holds `contents`; `change` makes its narinfo another one before it is signed. */
  add(name: string, contents: Buffer, options?: AddOptions): Promise<UpstreamPath>;
  /** No longer, or again, listening. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

export interface AddOptions {
  readonly compression?: 'none' | 'zstd' | 'br' | 'gzip' | 'bzip2' | 'xz';
  /** The file of `xz`, which nothing here can make. */
  readonly pack?: (nar: Buffer) => Promise<Buffer>;
  readonly change?: (info: NarInfo) => NarInfo;
  readonly references?: readonly string[];
  readonly signed?: boolean;
}

const KEY = parseSecretKey(generateSecretKey('upstream-1'));

export async function openUpstreamServer(): Promise<UpstreamServer> {
  const files = new Map<string, Buffer>([['/nix-cache-info', Buffer.from('StoreDir: /nix/store\n')]]);
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(request.url ?? '');
    if (self.misbehave?.(request, response) === true) return;
    const file = files.get(request.url ?? '');
    if (file === undefined) response.writeHead(404).end('not here');
    else sendFile(request, response, file);
  });
  let port = 0;
  const start = async (): Promise<void> => {
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  };
  const stop = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  await start();
  const self: UpstreamServer = {
    url: `http://127.0.0.1:${port}`,
    publicKey: publicKeyOf(KEY),
    requests,
    files,
    misbehave: undefined,
    sign: (message) => signText(KEY, message),
    add: async (name, contents, options = {}) => await addPath(files, name, contents, options),
    start,
    stop,
    [Symbol.asyncDispose]: async () => {
      if (server.listening) await stop();
    },
  };
  return self;
}

function sendFile(request: IncomingMessage, response: ServerResponse, file: Buffer): void {
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? -1);
  if (start < 0) return void response.writeHead(200, { 'content-length': file.length }).end(file);
  response.writeHead(206, {
    'content-length': file.length - start,
    'content-range': `bytes ${start}-${file.length - 1}/${file.length}`,
  });
  response.end(file.subarray(start));
}

async function addPath(
  files: Map<string, Buffer>,
  name: string,
  contents: Buffer,
  options: AddOptions,
): Promise<UpstreamPath> {
  const { compression = 'zstd', change = (info) => info, references = [], signed = true } = options;
  const nar = await narOf(fileNode(contents));
  const file = options.pack ? await options.pack(nar) : compress(nar, compression);
  const url = `nar/${nix32(file)}.nar.${compression}`;
  const path = pathNamed(name);
  const plain: NarInfo = {
    storePath: parseStorePath(path.storePath),
    url,
    compression,
    fileSize: file.length,
    narHash: parseHash(`sha256:${nix32(nar)}`),
    narSize: nar.length,
    references: references.map((one) => parseStorePath(one)),
    signatures: [],
  };
  const info = change(plain);
  const signatures = signed ? [signText(KEY, fingerprint(info))] : [];
  files.set(`/${path.hash}.narinfo`, Buffer.from(formatNarInfo({ ...info, signatures })));
  files.set(`/${url}`, file);
  return { ...path, nar, file: `/${url}` };
}

function compress(nar: Buffer, compression: string): Buffer {
  if (compression === 'none') return nar;
  if (compression === 'br') return brotliCompressSync(nar);
  return compression === 'gzip' ? gzipSync(nar) : zstdCompressSync(nar);
}
