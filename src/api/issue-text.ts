// A schema's complaint as one phrase for a person: where, and what is wrong. zod/mini brings no messages of its own.
import type * as z from 'zod/mini';

/** `remotes[0].poll: expected number`. Never shows the rejected value: it may be a secret in the wrong place. */
export function formatIssue(issue: z.core.$ZodIssue | undefined): string {
  if (issue === undefined) return 'not valid';
  const where = issue.path.length === 0 ? '' : `${formatPath(issue.path)}: `;
  return `${where}${complaint(issue)}`;
}

function complaint(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') return `unknown key ${issue.keys.join(', ')}`;
  if (issue.message !== 'Invalid input') return issue.message;
  if (issue.code === 'invalid_type') return `expected ${issue.expected}`;
  if (issue.code === 'invalid_value') return `expected one of ${issue.values.map(String).join(', ')}`;
  if (issue.code === 'too_small') return `expected at least ${String(issue.minimum)}`;
  if (issue.code === 'too_big') return `expected at most ${String(issue.maximum)}`;
  return issue.code === 'invalid_format' ? `not a valid ${issue.format}` : 'not valid';
}

/** `remotes[0].url`. Not z.core.toDotPath: naming z.core would bundle all of zod and its 50 languages. */
function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index > 0 ? '.' : ''}${String(part)}`))
    .join('');
}
