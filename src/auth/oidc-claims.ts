// What the job tokens of GitHub, GitLab and Forgejo say, and which rule they fit. Decided by structured claims, never by
// `sub` alone: its shape changed with the repositories that were created after July 2026 (`repo:O@OID/R@RID:…`, Forgejo
// `repo:o-ID/r-ID:…`), and GitLab lets projects choose it.
import type { OidcProvider, OidcRule } from '../api/identity-config.ts';
import { parseScope, type Scope } from './scope.ts';

export type Claims = Readonly<Record<string, string>>;

/** What is kept of a token, as text: who, what, when. The rest is not needed to answer "who wrote this". */
const KEPT = [
  'iss',
  'sub',
  'repository',
  'repository_id',
  'repository_owner_id',
  'project_path',
  'project_id',
  'namespace_id',
  'ref',
  'ref_path',
  'ref_type',
  'ref_protected',
  'event_name',
  'pipeline_source',
  'environment',
  'environment_protected',
  'workflow_ref',
  'job_workflow_ref',
  'ci_config_ref_uri',
  'runner_environment',
  'run_id',
  'run_attempt',
  'pipeline_id',
  'job_id',
  'sha',
  'actor',
  'actor_id',
  'user_login',
  'user_id',
];
const LONGEST = 500;

/** Jobs that run what somebody proposes: they never get to write under a cache's own key. */
const PROPOSALS = new Set([
  'pull_request',
  'pull_request_target',
  'pull_request_review',
  'merge_request_event',
  'external_pull_request_event',
]);

/** The claims as text, with the repository's number taken from `sub` where only that has it; `undefined` if they disagree. */
export function readClaims(token: Readonly<Record<string, unknown>>): Claims | undefined {
  const claims: Record<string, string> = {};
  for (const name of KEPT) {
    const value = token[name];
    if (typeof value === 'string' && value !== '' && value.length <= LONGEST) claims[name] = value;
    else if (typeof value === 'number' || typeof value === 'boolean') claims[name] = String(value);
  }
  const fromSubject = repositoryIdOf(claims['sub'] ?? '');
  if (fromSubject === undefined) return claims;
  if (claims['repository_id'] !== undefined && claims['repository_id'] !== fromSubject) return undefined;
  return { ...claims, repository_id: fromSubject };
}

/** The scopes of all rules that the claims fit. */
export function grantedScopes(provider: OidcProvider, claims: Claims): Scope[] {
  const texts = provider.rules.filter((rule) => fits(rule, claims)).flatMap((rule) => rule.grants);
  const scopes = [...new Set(texts)].map(parseScope);
  return isProposal(claims) ? scopes.filter((scope) => scope.kind !== 'write') : scopes;
}

/** `<provider>-<number>`: stays the same over renames, runs and branches. */
export function identityOf(provider: OidcProvider, claims: Claims): string {
  const id = claims['repository_id'] ?? claims['project_id'] ?? 'unknown';
  return `${provider.name}-${id.replaceAll(/[^A-Za-z0-9._-]/g, '-').slice(0, 40)}`;
}

/** For people: `me/fleet at refs/heads/main`. */
export function nameOf(claims: Claims): string {
  const repository = claims['repository'] ?? claims['project_path'] ?? claims['sub'] ?? 'a job';
  const ref = claims['ref_path'] ?? claims['ref'];
  return ref === undefined ? repository : `${repository} at ${ref}`;
}

function fits(rule: OidcRule, claims: Claims): boolean {
  return Object.entries(rule.claims).every(([name, wanted]) => {
    const value = claims[name];
    return value !== undefined && (typeof wanted === 'string' ? wanted === value : wanted.includes(value));
  });
}

function isProposal(claims: Claims): boolean {
  const proposed = [claims['event_name'], claims['pipeline_source']].some((event) =>
    PROPOSALS.has(event ?? ''),
  );
  return proposed || /(^|:)pull_request$/.test(claims['sub'] ?? '') || isPullRef(claims['ref'] ?? '');
}

function isPullRef(ref: string): boolean {
  return /^refs\/(pull|merge-requests)\//.test(ref);
}

/** GitHub: `repo:owner@12/name@34:…`; Forgejo: `repo:owner-12/name-34:…` cannot be told from a name, so it is not read. */
function repositoryIdOf(subject: string): string | undefined {
  return /^repo:[^:/@]+@\d+\/[^:/@]+@(\d{1,20}):/.exec(subject)?.[1];
}
