// GitHub: rulesets, as every reader sees them (GET /repos/{o}/{r}/rules/branches/{b}), and the older branch protection where
// the token may see it. A rule binds whoever its ruleset does not let by.
import * as z from 'zod/mini';
import { type BranchProtection, type Forge, type ForgeAccess, UNPROTECTED } from './forge.ts';
import { getFromForge } from './forge-request.ts';

const rules = z.array(
  z.object({
    type: z.string(),
    ruleset_id: z.optional(z.number()),
    parameters: z.optional(z.object({ required_approving_review_count: z.optional(z.number()) })),
  }),
);
const actor = z.object({ actor_id: z.nullish(z.number()), actor_type: z.string() });
const ruleset = z.object({ bypass_actors: z.optional(z.array(actor)) });
const switched = z.optional(z.object({ enabled: z.boolean() }));
const named = z.array(z.object({ login: z.optional(z.string()), slug: z.optional(z.string()) }));
const classic = z.object({
  allow_force_pushes: switched,
  allow_deletions: switched,
  restrictions: z.optional(z.object({ users: named, teams: named, apps: named })),
  required_pull_request_reviews: z.optional(
    z.object({ required_approving_review_count: z._default(z.number(), 0) }),
  ),
});

type Rules = z.infer<typeof rules>;

export function openGithub(access: ForgeAccess): Forge {
  return { kind: 'github', readProtection: async (branch) => await readProtection(access, branch) };
}

async function readProtection(access: ForgeAccess, branch: string): Promise<BranchProtection> {
  const name = encodeURIComponent(branch);
  const active = rules.parse((await get(access, `/rules/branches/${name}`)) ?? []);
  const bypass = await readBypass(access, active);
  return join(fromRules(active, bypass), await readClassic(access, name));
}

/** Who is let by each ruleset; empty also where the token may not see it. */
async function readBypass(
  access: ForgeAccess,
  active: Rules,
): Promise<ReadonlyMap<number, readonly string[]>> {
  const ids = [...new Set(active.flatMap((rule) => rule.ruleset_id ?? []))];
  const found = new Map<number, readonly string[]>();
  for (const id of ids) {
    const one = ruleset.parse((await get(access, `/rulesets/${id}`)) ?? {});
    const names = (one.bypass_actors ?? []).map(({ actor_type: type, actor_id: actorId }) =>
      `${type} ${actorId ?? ''}`.trim(),
    );
    found.set(id, names);
  }
  return found;
}

function fromRules(active: Rules, bypass: ReadonlyMap<number, readonly string[]>): BranchProtection {
  const of = (type: string): Rules => active.filter((rule) => rule.type === type);
  const binds = (type: string): boolean => of(type).some((rule) => letBy(rule, bypass).length === 0);
  const update = of('update');
  const reviews = of('pull_request').map((rule) => rule.parameters?.required_approving_review_count ?? 0);
  return {
    covered: active.length > 0,
    forcePush: binds('non_fast_forward') ? 'forbidden' : 'allowed',
    deletion: binds('deletion') ? 'forbidden' : 'allowed',
    pushers: update.length === 0 ? 'everybody' : update.flatMap((rule) => letBy(rule, bypass)),
    reviews: Math.max(0, ...reviews),
  };
}

function letBy(rule: Rules[number], bypass: ReadonlyMap<number, readonly string[]>): readonly string[] {
  return rule.ruleset_id === undefined ? [] : (bypass.get(rule.ruleset_id) ?? []);
}

async function readClassic(access: ForgeAccess, name: string): Promise<BranchProtection> {
  const found = await get(access, `/branches/${name}/protection`).catch(() => undefined); // only admins may see it
  if (found === undefined) return UNPROTECTED;
  const { allow_force_pushes: force, allow_deletions: deletion, ...rest } = classic.parse(found);
  const { users, teams, apps } = rest.restrictions ?? { users: [], teams: [], apps: [] };
  const names = [...users, ...teams, ...apps].map(({ login, slug }) => login ?? slug ?? '');
  return {
    covered: true,
    forcePush: force?.enabled === true ? 'allowed' : 'forbidden',
    deletion: deletion?.enabled === true ? 'allowed' : 'forbidden',
    pushers: rest.restrictions === undefined ? 'everybody' : names,
    reviews: rest.required_pull_request_reviews?.required_approving_review_count ?? 0,
  };
}

/** Both systems hold at once: the stricter answer of each. */
function join(one: BranchProtection, other: BranchProtection): BranchProtection {
  return {
    covered: one.covered || other.covered,
    forcePush: one.forcePush === 'forbidden' ? 'forbidden' : other.forcePush,
    deletion: one.deletion === 'forbidden' ? 'forbidden' : other.deletion,
    pushers: one.pushers === 'everybody' ? other.pushers : one.pushers,
    reviews: Math.max(one.reviews, other.reviews),
  };
}

async function get(access: ForgeAccess, path: string): Promise<unknown> {
  const headers: Record<string, string> = { 'x-github-api-version': '2022-11-28' };
  if (access.token !== undefined) headers['authorization'] = `Bearer ${access.token}`;
  return await getFromForge({ ...access, path: `/repos/${access.project}${path}`, headers });
}
