// The forge's settings for the two-branch model as calls of its API, ready to be sent by whoever administers it. Pure.
import type { ForgeKind } from '../effects/forge.ts';
import { protectedBranches } from './release-protection.ts';

export interface SettingsFacts {
  readonly project: string;
  readonly release: string;
  readonly source: string;
  /** Who publishes: a user or app of the forge; undefined: a deploy key (GitLab: a maintainer's token). */
  readonly pusher: string | undefined;
}

export interface ApiCall {
  readonly method: 'POST';
  /** Below the root of the API. */
  readonly path: string;
  readonly body: unknown;
}

/** `pusher` is a user name on Forgejo, a numeric id (of an app, of a user) on GitHub and GitLab. */
export function protectionSettings(kind: ForgeKind, facts: SettingsFacts): readonly ApiCall[] {
  return SETTINGS[kind](facts);
}

const SETTINGS: Readonly<Record<ForgeKind, (facts: SettingsFacts) => readonly ApiCall[]>> = {
  github,
  gitlab,
  forgejo,
};

/** Two rulesets: whoever is let by a ruleset is let by all of its rules, and nobody may rewrite. */
function github({ project, release, source, pusher }: SettingsFacts): readonly ApiCall[] {
  const path = `/repos/${project}/rulesets`;
  const own = protectedBranches(release, source).filter(({ role }) => role === 'release');
  const refs = own.map(({ branch }) => `refs/heads/${branch}`);
  const actor =
    pusher === undefined
      ? { actor_type: 'DeployKey', bypass_mode: 'always' }
      : { actor_type: 'Integration', actor_id: Number(pusher), bypass_mode: 'always' };
  const ruleset = (
    name: string,
    include: readonly string[],
    rules: readonly unknown[],
    more = {},
  ): ApiCall => ({
    method: 'POST',
    path,
    body: {
      name,
      target: 'branch',
      enforcement: 'active',
      conditions: { ref_name: { include, exclude: [] } },
      rules,
      ...more,
    },
  });
  const keep = [{ type: 'deletion' }, { type: 'non_fast_forward' }];
  const review = {
    type: 'pull_request',
    parameters: {
      required_approving_review_count: 1,
      require_code_owner_review: true,
      dismiss_stale_reviews_on_push: true,
      require_last_push_approval: true,
      required_review_thread_resolution: false,
    },
  };
  return [
    ruleset('slipway: releases only grow', refs, keep),
    ruleset('slipway: only the pipeline publishes', refs, [{ type: 'creation' }, { type: 'update' }], {
      bypass_actors: [actor],
    }),
    ruleset('slipway: the source is reviewed', [`refs/heads/${source}`], [...keep, review]),
  ];
}

function gitlab({ project, release, source, pusher }: SettingsFacts): readonly ApiCall[] {
  const path = `/projects/${encodeURIComponent(project)}/protected_branches`;
  // Without a user: maintainers, of whom the pipeline's token is one. Naming a user is a paid feature of GitLab.
  const publish =
    pusher === undefined ? { push_access_level: 40 } : { allowed_to_push: [{ user_id: Number(pusher) }] };
  return protectedBranches(release, source).map(({ branch, role }) => ({
    method: 'POST',
    path,
    body:
      role === 'release'
        ? { name: branch, allow_force_push: false, ...publish, merge_access_level: 0 }
        : { name: branch, allow_force_push: false, push_access_level: 0, merge_access_level: 40 },
  }));
}

function forgejo({ project, release, source, pusher }: SettingsFacts): readonly ApiCall[] {
  return protectedBranches(release, source).map(({ branch, role }) => ({
    method: 'POST',
    path: `/repos/${project}/branch_protections`,
    body:
      role === 'release'
        ? {
            rule_name: branch,
            enable_push: true,
            enable_push_whitelist: true,
            push_whitelist_usernames: pusher === undefined ? [] : [pusher],
            push_whitelist_deploy_keys: pusher === undefined,
            enable_merge_whitelist: true,
            merge_whitelist_usernames: [],
          }
        : {
            rule_name: branch,
            enable_push: false,
            required_approvals: 1,
            dismiss_stale_approvals: true,
            block_on_rejected_reviews: true,
          },
  }));
}
