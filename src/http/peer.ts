// Who is at the other end of a request: what server.ts tells the app, and whether it is this very machine.
import type { Context } from 'hono';
import { isLoopback } from './listen-address.ts';

export interface AppBindings {
  /** Remote address; `unix` for a unix socket; undefined when the socket is gone already. */
  readonly peer: string | undefined;
}

export interface AppEnv {
  readonly Bindings: AppBindings;
}

export type AppContext = Context<AppEnv>;

/** Headers that only a proxy sets: then the peer is the proxy, and the person behind it may be anybody. */
const PROXY_HEADERS = ['forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip', 'via'];

/**
 * Whether a program on this machine asks directly. A browser here that shows a foreign page could be turned
 * against this server by DNS rebinding, so the name that it asks for must be a local one too.
 */
export function isLocalPeer(c: AppContext): boolean {
  const peer = c.env.peer;
  if (PROXY_HEADERS.some((name) => c.req.header(name) !== undefined)) return false;
  if (peer === 'unix') return true;
  return peer !== undefined && isLoopback(peer) && isLocalName(c.req.header('host') ?? '');
}

function isLocalName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return isLoopback(name) || name.endsWith('.localhost');
}
