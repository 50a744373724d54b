// Where a server listens, as text: `127.0.0.1:7480`, `[::1]:7480`, `:7480` (every address), `unix:/run/x.sock`.
import { SlipwayError } from '../util/errors.ts';

export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string | undefined; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Linux holds socket paths of at most 107 bytes. */
const LONGEST_SOCKET_PATH = 107;

/** Parses one address; port 0 means any free port. Anything else is `invalid`. */
export function parseListenAddress(text: string): ListenAddress {
  return parseUnix(text) ?? parseTcp(text) ?? fail(text);
}

/** The address as a URL that a client on this machine can use; a unix socket as `unix:/path`. */
export function formatListenUrl(address: ListenAddress): string {
  if (address.kind === 'unix') return `unix:${address.path}`;
  const host = address.host ?? 'localhost';
  return `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}

/** Whether only this machine reaches the address. */
export function isLocalAddress(address: ListenAddress): boolean {
  return address.kind === 'unix' || (address.host !== undefined && isLoopback(address.host));
}

/** Loopback as Node spells peers: 127.0.0.0/8, ::1, and IPv4 inside IPv6. */
export function isLoopback(host: string): boolean {
  return /^(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host) || host === '::1' || host === 'localhost';
}

function parseUnix(text: string): ListenAddress | undefined {
  const path = /^unix:(\/[^\0\n]+)$/.exec(text)?.[1];
  if (path === undefined || Buffer.byteLength(path) > LONGEST_SOCKET_PATH) return undefined;
  return { kind: 'unix', path };
}

function parseTcp(text: string): ListenAddress | undefined {
  const [, v6, name, digits] = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits ?? Number.NaN);
  if (!(port >= 0 && port <= 65_535)) return undefined;
  const host = v6 ?? name;
  return { kind: 'tcp', host: host === '' || host === '*' ? undefined : host, port };
}

function fail(text: string): never {
  throw new SlipwayError('invalid', `${JSON.stringify(text)} is not an address to listen on.`, {
    next: 'Use 127.0.0.1:7480, [::1]:7480, :7480 for every address, or unix:/run/slipway/slipway.sock.',
  });
}
