// What the choice of a release is made from, and what it comes to.
import type { ManifestHost, ReleaseManifest } from '../api/manifest.ts';
import type { HostRelease, QuarantineEntry } from './agent-state.ts';

/** What became of the manifest that was fetched beside a release. */
export type ManifestFacts =
  | { readonly kind: 'missing' }
  | { readonly kind: 'untrusted'; readonly detail: string }
  | { readonly kind: 'malformed'; readonly detail: string }
  | { readonly kind: 'trusted'; readonly manifest: ReleaseManifest };

export type RemoteFacts = { readonly url: string; readonly branch: string } & (
  | { readonly kind: 'unreachable'; readonly detail: string }
  | { readonly kind: 'empty' }
  | {
      readonly kind: 'tip';
      readonly commit: string;
      /** Whether the last release of the main branch that this host knows is an ancestor; `yes` when it knows none. */
      readonly descends: 'yes' | 'no';
      /** Tips of the main branch that are ancestors: asked of testing branches alone. */
      readonly onTopOf: readonly string[];
      readonly manifest: ManifestFacts;
    }
);

export interface ReleaseFacts {
  readonly host: string;
  readonly now: Date;
  /** In the order of the configuration. */
  readonly remotes: readonly RemoteFacts[];
  readonly applied: HostRelease | undefined;
  /** The newest release of the main branch that this host took, or a testing release on top of it. */
  readonly mainline: HostRelease | undefined;
  /** Targets of /run/current-system and of the system profile. */
  readonly current: string | undefined;
  readonly profile: string | undefined;
  readonly quarantine: readonly QuarantineEntry[];
  readonly accepted: string | undefined;
  readonly suspended: { readonly reason: string; readonly until: Date | undefined } | undefined;
  readonly hold: string | undefined;
  /** Set while the last attempt of a toplevel failed for a reason that may pass by itself. */
  readonly retry: { readonly toplevel: string; readonly notBefore: Date; readonly note: string } | undefined;
  readonly maxReleaseAge: number;
  readonly selfHeal: boolean;
}

/** Why a release is not taken: a word for machines, a sentence for people, and what they can do. */
export interface Because {
  readonly reason: string;
  readonly detail: string;
  readonly next?: string;
}

export interface Candidate {
  readonly release: HostRelease;
  readonly url: string;
  readonly manifest: ReleaseManifest;
  readonly entry: ManifestHost;
  readonly onTopOf: readonly string[];
  /** Of a testing release: the release that it goes on top of, as far as the main branch could be asked. */
  readonly base?: HostRelease;
}

export type ReleaseDecision =
  | { readonly kind: 'apply'; readonly candidate: Candidate; readonly because: Because }
  /** The host runs what the newest release wants of it. */
  | { readonly kind: 'current'; readonly candidate: Candidate; readonly because: Because }
  | { readonly kind: 'wait'; readonly candidate: Candidate | undefined; readonly because: Because }
  | { readonly kind: 'refuse'; readonly candidate: Candidate | undefined; readonly because: Because };

/** A branch for this host alone: `<release>-testing-<host>`. */
export function isTestingBranch(branch: string, host: string): boolean {
  return branch.endsWith(`-testing-${host}`);
}

export function shortCommit(commit: string): string {
  return commit.slice(0, 10);
}
