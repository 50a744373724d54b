// Forgejo (and Gitea): branch protections (GET /repos/{o}/{r}/branch_protections). A protected branch can be neither deleted
// nor, unless Gitea's newer switch says so, pushed to by force. The exact name goes before a pattern.
import * as z from 'zod/mini';
import { type BranchProtection, type Forge, type ForgeAccess, UNPROTECTED } from './forge.ts';
import { getFromForge } from './forge-request.ts';

const rule = z.object({
  rule_name: z.optional(z.string()),
  branch_name: z.optional(z.string()),
  enable_push: z._default(z.boolean(), false),
  enable_push_whitelist: z._default(z.boolean(), false),
  push_whitelist_usernames: z._default(z.nullable(z.array(z.string())), []),
  push_whitelist_teams: z._default(z.nullable(z.array(z.string())), []),
  push_whitelist_deploy_keys: z._default(z.boolean(), false),
  enable_force_push: z._default(z.boolean(), false),
  required_approvals: z._default(z.number(), 0),
});

type Rule = z.infer<typeof rule>;

export function openForgejo(access: ForgeAccess): Forge {
  return { kind: 'forgejo', readProtection: async (branch) => await readProtection(access, branch) };
}

async function readProtection(access: ForgeAccess, branch: string): Promise<BranchProtection> {
  const all = z.array(rule).parse((await get(access, '/branch_protections')) ?? []);
  const found = all.find((one) => nameOf(one) === branch) ?? all.find((one) => matches(nameOf(one), branch));
  if (found === undefined) return UNPROTECTED;
  return {
    covered: true,
    forcePush: found.enable_force_push ? 'allowed' : 'forbidden',
    deletion: 'forbidden',
    pushers: pushersOf(found),
    reviews: found.required_approvals,
  };
}

function pushersOf(found: Rule): readonly string[] | 'everybody' {
  if (!found.enable_push) return [];
  if (!found.enable_push_whitelist) return 'everybody';
  const keys = found.push_whitelist_deploy_keys ? ['deploy keys'] : [];
  return [...(found.push_whitelist_usernames ?? []), ...(found.push_whitelist_teams ?? []), ...keys];
}

function nameOf(one: Rule): string {
  return one.rule_name ?? one.branch_name ?? '';
}

/** Its patterns: `*` within a part, `**` across slashes. */
function matches(pattern: string, branch: string): boolean {
  const source = pattern.replaceAll(/\*\*|\*|[^*]+/g, (part) => {
    if (part === '**') return '.*';
    return part === '*' ? '[^/]*' : part.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`);
  });
  return new RegExp(`^${source}$`).test(branch);
}

async function get(access: ForgeAccess, path: string): Promise<unknown> {
  const headers = access.token === undefined ? {} : { authorization: `token ${access.token}` };
  return await getFromForge({ ...access, path: `/repos/${access.project}${path}`, headers });
}
