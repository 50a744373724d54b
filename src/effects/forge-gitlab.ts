// GitLab: protected branches (GET /projects/{id}/protected_branches). Their names may hold `*`; several that match are
// joined by GitLab to the most permissive.
import * as z from 'zod/mini';
import { type BranchProtection, type Forge, type ForgeAccess, UNPROTECTED } from './forge.ts';
import { getFromForge } from './forge-request.ts';

const level = z.object({
  access_level: z.nullish(z.number()),
  access_level_description: z.optional(z.string()),
  user_id: z.nullish(z.number()),
  deploy_key_id: z.nullish(z.number()),
});
const rule = z.object({
  name: z.string(),
  push_access_levels: z.array(level),
  allow_force_push: z._default(z.boolean(), false),
});
const approvals = z.array(z.object({ approvals_required: z._default(z.number(), 0) }));

type Rule = z.infer<typeof rule>;

/** Access level "Developer": everybody who may write at all. */
const DEVELOPER = 30;

export function openGitlab(access: ForgeAccess): Forge {
  return { kind: 'gitlab', readProtection: async (branch) => await readProtection(access, branch) };
}

async function readProtection(access: ForgeAccess, branch: string): Promise<BranchProtection> {
  const all = z.array(rule).parse((await get(access, '/protected_branches?per_page=100')) ?? []);
  const matching = all.filter(({ name }) => matches(name, branch));
  if (matching.length === 0) return UNPROTECTED;
  const pushers = matching.flatMap(pushersOf);
  return {
    covered: true,
    forcePush: matching.some((one) => one.allow_force_push) ? 'allowed' : 'forbidden',
    deletion: 'forbidden', // a push cannot delete a protected branch
    pushers: pushers.includes('everybody') ? 'everybody' : pushers,
    reviews: await readReviews(access),
  };
}

function pushersOf({ push_access_levels: levels }: Rule): string[] {
  return levels.flatMap((one) => {
    if (one.user_id != null) return [`user ${one.user_id}`];
    if (one.deploy_key_id != null) return [`deploy key ${one.deploy_key_id}`];
    if (one.access_level == null || one.access_level === 0) return [];
    return one.access_level <= DEVELOPER
      ? ['everybody']
      : [one.access_level_description ?? `level ${one.access_level}`];
  });
}

/** Approval rules are a paid feature; a GitLab without them has none. */
async function readReviews(access: ForgeAccess): Promise<number> {
  const found = await get(access, '/approval_rules').catch(() => undefined);
  const parsed = approvals.safeParse(found);
  return parsed.success ? Math.max(0, ...parsed.data.map((one) => one.approvals_required)) : 0;
}

function matches(name: string, branch: string): boolean {
  const pattern = name.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`));
  return new RegExp(`^${pattern.join('.*')}$`).test(branch);
}

async function get(access: ForgeAccess, path: string): Promise<unknown> {
  const headers = access.token === undefined ? {} : { authorization: `Bearer ${access.token}` };
  const project = encodeURIComponent(access.project);
  return await getFromForge({ ...access, path: `/projects/${project}${path}`, headers });
}
