// The policy file, `.slipway/policy.toml`: which hosts and tags may read which paths, who may edit, who may approve.
// In force is the one in the previous release's tree, so that no commit grants itself anything. Pure.
import { parse, TomlError } from 'smol-toml';
import * as z from 'zod/mini';
import { secretReader } from '../api/fleet-config.ts';
import { formatIssue } from '../api/issue-text.ts';
import { matchesPath } from './path-pattern.ts';
import type { SecretProblem } from './secret-problem.ts';

export const POLICY_PATH = '.slipway/policy.toml';

const rule = z.strictObject({
  /** Patterns of path-pattern.ts, from the root of the repository. */
  paths: z.array(z.string()).check(z.minLength(1, 'a rule names at least one path')),
  /** Host names; `*` is every host. */
  hosts: z._default(z.array(z.union([z.literal('*'), secretReader])), []),
  /** Hosts with one of these tags, as the last release knew them. */
  tags: z._default(z.array(z.string()), []),
  /** Whether a host that comes to read such a path needs somebody's approval. */
  approval: z._default(z.enum(['required', 'never']), 'required'),
});

const secretsPolicy = z.strictObject({
  version: z.literal(1),
  /** SSH public keys whose signatures approve; absent: the editors' ssh keys. */
  approvers: z.optional(z.array(z.string())),
  /** Public keys that may be editors or re-keyers; absent: the flake alone says who is. */
  editors: z.optional(z.array(z.string())),
  /** For a path, the last rule that names it decides, as in CODEOWNERS. Without any rule every host may read all. */
  rule: z._default(z.array(rule), []),
});

export type SecretsPolicy = z.infer<typeof secretsPolicy>;

/** What a policy says about one host and one path. */
export type PolicyVerdict = 'free' | 'approval' | 'denied';

/** The policy of a repository that has none: any host may read what its configuration names, once approved. */
export const NO_POLICY: SecretsPolicy = { version: 1, rule: [] };

export function parsePolicy(bytes: Uint8Array): SecretsPolicy | SecretProblem {
  try {
    const parsed = secretsPolicy.safeParse(parse(Buffer.from(bytes).toString('utf8')));
    return parsed.success ? parsed.data : wrong(formatIssue(parsed.error.issues[0]));
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    return wrong(`line ${error.line}: ${error.message.split('\n')[0] ?? ''}`);
  }
}

export function judge(
  policy: SecretsPolicy,
  host: string,
  path: string,
  tags: readonly string[],
): PolicyVerdict {
  if (policy.rule.length === 0) return 'approval';
  const last = policy.rule.findLast(({ paths }) => paths.some((pattern) => matchesPath(pattern, path)));
  if (last === undefined) return 'denied';
  const named = last.hosts.includes('*') || last.hosts.includes(host);
  if (!named && !last.tags.some((tag) => tags.includes(tag))) return 'denied';
  return last.approval === 'never' ? 'free' : 'approval';
}

function wrong(why: string): SecretProblem {
  return {
    code: 'policy_wrong',
    path: POLICY_PATH,
    message: `${POLICY_PATH} is not a policy: ${why}.`,
    next: 'Correct it; docs/secrets.md shows every key.',
  };
}
