// Who asks, and what they may do. Every door of the server decides with these functions and nothing else.
import {
  matchesPattern,
  type AtticPermission,
  type AtticScope,
  type PatternKind,
  type Scope,
} from './scope.ts';

export interface Caller {
  /** Id of the token. */
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Who the holder proved to be, such as `github-4711`; without it, the token itself is the identity. */
  readonly identity?: string;
  /** What an identity provider says of the holder. */
  readonly claims?: Readonly<Record<string, string>>;
}

/** The part of a token registry that the doors need. */
export interface CallerFinder {
  /** Who sent this Authorization header; `undefined` when it is absent, unknown, wrong, expired or revoked. */
  findCaller(authorization: string | undefined): Promise<Caller | undefined>;
}

/** What can be done to a cache as a whole, by Attic's name for the permission. */
export type ManageAction = Extract<AtticPermission, 'cc' | 'cr' | 'cq' | 'cd'>;

/** The identity under which writes are recorded. */
export function writerOf(caller: Caller): string {
  return caller.identity ?? caller.id;
}

/** A writer reads too: `nix copy` asks for what is there before it uploads. */
export function mayRead(caller: Caller | undefined, cache: string): boolean {
  return mayWrite(caller, cache) || mayContribute(caller, cache) || grants(caller, 'read', cache, 'r');
}

/** Whether what the caller writes is published under the cache's own key. */
export function mayWrite(caller: Caller | undefined, cache: string): boolean {
  return isAdmin(caller) || grants(caller, 'write', cache, 'w');
}

/** Whether the caller may fill an overlay of its own over the cache. */
export function mayContribute(caller: Caller | undefined, cache: string): boolean {
  return grants(caller, 'contribute', cache);
}

/** Whether the caller may look into what a contributor wrote: the contributor itself, and whoever opted in. */
export function mayReadOverlay(caller: Caller | undefined, cache: string, writer: string): boolean {
  if (caller === undefined) return false;
  const own = mayContribute(caller, cache) && writerOf(caller) === writer;
  return own || mayWrite(caller, cache) || grants(caller, 'read', `${cache}~${writer}`);
}

export function mayManage(caller: Caller | undefined, action: ManageAction, cache: string): boolean {
  return isAdmin(caller) || grants(caller, 'manage', cache, action);
}

/** Whether the caller may know that the cache exists: any permission on it says so. */
export function mayDiscover(caller: Caller | undefined, cache: string): boolean {
  if (mayRead(caller, cache) || grants(caller, 'manage', cache)) return true;
  return (atticScopeFor(caller, cache)?.permissions.length ?? 0) > 0;
}

/** Whether the caller is the agent of `host`. An administrator is not: nobody reports for a host but the host. */
export function isAgentOf(caller: Caller | undefined, host: string): boolean {
  return grants(caller, 'agent', host);
}

/** Whether the caller may see the status page: hosts, runs and their logs. */
export function mayView(caller: Caller | undefined): boolean {
  return isAdmin(caller) || (caller?.scopes.some((scope) => scope.kind === 'view') ?? false);
}

export function isAdmin(caller: Caller | undefined): boolean {
  return caller?.scopes.some((scope) => scope.kind === 'admin') ?? false;
}

function grants(
  caller: Caller | undefined,
  kind: PatternKind,
  name: string,
  permission?: AtticPermission,
): boolean {
  if (caller?.scopes.some((scope) => scope.kind === kind && matchesPattern(scope.pattern, name)) === true)
    return true;
  return permission !== undefined && (atticScopeFor(caller, name)?.permissions.includes(permission) ?? false);
}

/** Attic's rule: the entry with the very name, else the first that matches; entries are never merged (token/src/lib.rs). */
function atticScopeFor(caller: Caller | undefined, cache: string): AtticScope | undefined {
  const scopes = caller?.scopes.filter((scope) => scope.kind === 'attic') ?? [];
  return (
    scopes.find(({ pattern }) => pattern === cache) ??
    scopes.find(({ pattern }) => matchesPattern(pattern, cache))
  );
}
