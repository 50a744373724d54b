// What a token may do, as text: `read:<caches>`, `write:<caches>`, `contribute:<caches>`, `manage:<caches>`,
// `agent:<hosts>`, `view` (the status page), `admin`; and `attic:<caches>=<permissions>` as Attic's tokens grant it.
// Caches and hosts are named by patterns in which `*` stands for any run of characters.
import { SlipwayError } from '../util/errors.ts';

/** `contribute`: may fill an overlay of its own. `manage`: may make, configure and destroy caches. */
export type PatternKind = 'read' | 'write' | 'contribute' | 'manage' | 'agent';

/** Attic's permissions: pull, push, delete a path; create, configure, destroy a cache, configure its retention. */
export type AtticPermission = 'r' | 'w' | 'd' | 'cc' | 'cr' | 'cq' | 'cd';

export type Scope =
  | { readonly kind: PatternKind; readonly pattern: string }
  | AtticScope
  | { readonly kind: 'view' | 'admin' };

export interface AtticScope {
  readonly kind: 'attic';
  readonly pattern: string;
  readonly permissions: readonly AtticPermission[];
}

export const ATTIC_PERMISSIONS: readonly AtticPermission[] = ['r', 'w', 'd', 'cc', 'cr', 'cq', 'cd'];

const PATTERN_KINDS: readonly PatternKind[] = ['read', 'write', 'contribute', 'manage', 'agent'];

/** Letters, digits, `-_+.~` and `*`; at most 100 characters, so that matching stays cheap. */
const PATTERN = /^[A-Za-z0-9*][A-Za-z0-9*+_.~-]{0,99}$/;

/** Parses one scope; anything unknown is `invalid`. */
export function parseScope(text: string): Scope {
  if (text === 'admin' || text === 'view') return { kind: text };
  const [, kind = '', pattern = '', permissions] = /^([a-z]+):([^:=]+)(?:=([a-z,]+))?$/.exec(text) ?? [];
  if (!PATTERN.test(pattern)) throw unknownScope(text);
  if (kind === 'attic' && permissions !== undefined)
    return { kind, pattern, permissions: parsePermissions(permissions, text) };
  if (!isPatternKind(kind) || permissions !== undefined) throw unknownScope(text);
  return { kind, pattern };
}

export function formatScope(scope: Scope): string {
  if (scope.kind === 'attic') return `attic:${scope.pattern}=${scope.permissions.join(',')}`;
  return 'pattern' in scope ? `${scope.kind}:${scope.pattern}` : scope.kind;
}

/** Whether `name` fits `pattern`; takes time linear in both, whatever the pattern. */
export function matchesPattern(pattern: string, name: string): boolean {
  const [head = '', ...parts] = pattern.split('*');
  const tail = parts.pop();
  if (tail === undefined) return name === head;
  if (!name.startsWith(head) || !name.endsWith(tail) || name.length < head.length + tail.length) return false;
  let from = head.length;
  const end = name.length - tail.length;
  return parts.every((part) => {
    const found = name.indexOf(part, from);
    from = found + part.length;
    return found !== -1 && from <= end;
  });
}

function parsePermissions(list: string, text: string): AtticPermission[] {
  return list.split(',').map((name) => {
    const permission = ATTIC_PERMISSIONS.find((known) => known === name);
    if (permission === undefined) throw unknownScope(text);
    return permission;
  });
}

function isPatternKind(kind: string): kind is PatternKind {
  return PATTERN_KINDS.some((known) => known === kind);
}

function unknownScope(text: string): SlipwayError {
  return new SlipwayError('invalid', `"${text.slice(0, 200)}" is not a scope.`, {
    next: 'Use read:, write:, contribute: or manage:<cache>, agent:<host> (each may hold *), view, or admin.',
  });
}
