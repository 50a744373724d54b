// Who asks, and what they may do. Every door of the server decides with these functions and nothing else.
import { matchesPattern, type Scope } from './scope.ts';

export interface Caller {
  /** Id of the token: the identity under which writes are recorded. */
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
}

/** A writer reads too: `nix copy` asks for what is there before it uploads. */
export function mayRead(caller: Caller | undefined, cache: string): boolean {
  return isAdmin(caller) || grants(caller, 'read', cache) || grants(caller, 'write', cache);
}

export function mayWrite(caller: Caller | undefined, cache: string): boolean {
  return isAdmin(caller) || grants(caller, 'write', cache);
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

function grants(caller: Caller | undefined, kind: 'read' | 'write' | 'agent', name: string): boolean {
  return caller?.scopes.some((scope) => scope.kind === kind && matchesPattern(scope.pattern, name)) ?? false;
}
