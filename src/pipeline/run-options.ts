// What a pipeline run is given and what it gives back. Paths and URLs in, no secrets: those are read when they are needed.
import type { CommitSigning } from '../effects/git-signature.ts';
import type { GitRemote } from '../effects/git-remote.ts';
import type { NixSettings } from '../effects/nix-config.ts';
import type { SlipwayError } from '../util/errors.ts';
import type { Deployer } from './deploy-hosts.ts';
import type { EvaluationLimits } from './evaluate-hosts.ts';
import type { CacheSetting } from './plan-caches.ts';

/** How far a run goes: `evaluate` tells what is there, `plan` what would change, `build` builds it, `deploy` is all. */
export type RunGoal = 'evaluate' | 'plan' | 'build' | 'publish' | 'deploy';

export interface RunOptions {
  /** Folder for mirrors and locks; a cache that may be deleted between runs. */
  readonly stateDirectory: string;
  /** Where the source is read. */
  readonly source: GitRemote;
  /** Where releases are read and published; often the same repository. */
  readonly remote: GitRemote;
  /** Branch of the source; `HEAD` stands for what is checked out. */
  readonly sourceBranch: string;
  /** A commit of that branch; default: its tip. */
  readonly sourceCommit?: string;
  /** Release from the commit although the working tree has other changes. */
  readonly allowDirty?: boolean;
  /** Release a source that does not contain the last released one. */
  readonly allowRollback?: boolean;
  readonly goal: RunGoal;
  /** Nix-style secret key (`name:base64`) that signs manifests; needed to publish. */
  readonly signingKeyFile?: string;
  /** Public keys (`name:base64`) whose releases are continued besides those of the signing key. */
  readonly trustedKeys?: readonly string[];
  /** Private key that the secrets on the source branch are encrypted to. */
  readonly rekeyIdentityFile?: string;
  /** How release and manifest commits are signed, for comin and plain git users. */
  readonly commitSigning?: CommitSigning;
  /** OpenSSH's ALLOWED SIGNERS: who must have signed the release commit that this one goes on top of. */
  readonly allowedSignersFile?: string;
  /** Serial of the release to go back to: its source is released again, as a new release. */
  readonly rollbackTo?: number;
  /** Release for this host alone, to the branch `<release>-testing-<host>`. */
  readonly testing?: string;
  /** Digest of the grants that the operator looked at and approved. */
  readonly approvedGrants?: string;
  readonly caches?: readonly CacheSetting[];
  /** Base URL of the Slipway server that `slipway:<cache>` means. */
  readonly serverUrl?: string;
  readonly deployer?: Deployer;
  readonly nix?: NixSettings;
  readonly limits?: EvaluationLimits;
  /** Hosts of a wave deployed at a time. Default 4. */
  readonly deployJobs?: number;
  /** Longest wait in ms for another run on the same state folder. Default 15 minutes. */
  readonly lockTimeoutMs?: number;
  /** Why the run was started, for its record: `push`, `manual`, … */
  readonly reason: string;
  /** Name of the run; default: a new one. */
  readonly run?: string;
}

export interface RunResult {
  readonly run: string;
  readonly outcome: 'done' | 'nothing-to-do' | 'failed';
  /** One sentence: what was released, or why nothing was, or what failed. */
  readonly note: string;
  /** The release commit that stands after the run, and its serial, when this run knows them. */
  readonly release?: string;
  readonly serial?: number;
  /** The first failure, which decides the exit code; hosts that failed while others went on count too. */
  readonly error?: SlipwayError;
}
