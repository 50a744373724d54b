// What a token may do, as text: `read:<caches>`, `write:<caches>`, `agent:<hosts>`, `view` (the status page), `admin`.
// Caches and hosts are named by patterns in which `*` stands for any run of characters.
import { SlipwayError } from '../util/errors.ts';

export type Scope =
  | { readonly kind: 'read' | 'write' | 'agent'; readonly pattern: string }
  | { readonly kind: 'view' | 'admin' };

/** Letters, digits, `-_+.` and `*`; at most 100 characters, so that matching stays cheap. */
const PATTERN = /^[A-Za-z0-9*][A-Za-z0-9*+_.-]{0,99}$/;

/** Parses one scope; anything unknown is `invalid`. */
export function parseScope(text: string): Scope {
  if (text === 'admin' || text === 'view') return { kind: text };
  const [kind = '', pattern = '', ...rest] = text.split(':');
  if (!isPatternKind(kind) || rest.length > 0 || !PATTERN.test(pattern))
    throw new SlipwayError('invalid', `"${text}" is not a scope.`, {
      next: 'Use read:<cache>, write:<cache>, agent:<host> (each may hold *), view, or admin.',
    });
  return { kind, pattern };
}

export function formatScope(scope: Scope): string {
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

function isPatternKind(kind: string): kind is 'read' | 'write' | 'agent' {
  return kind === 'read' || kind === 'write' || kind === 'agent';
}
