// What every stage of one run shares.
import type { ReleaseManifest } from '../api/manifest.ts';
import type { Nix } from '../effects/nix-cli.ts';
import type { SecretKey } from '../nix/signature.ts';
import type { SlipwayError } from '../util/errors.ts';
import type { FleetFacts } from './fleet-facts.ts';
import type { FlakeSource } from './flake-source.ts';
import type { CacheSetting } from './plan-caches.ts';
import type { PreviousRelease } from './release-history.ts';
import type { Rollback } from './rollback-release.ts';
import type { RunOptions } from './run-options.ts';
import type { RunRecorder } from './run-recorder.ts';

export interface RunContext {
  readonly run: string;
  readonly options: RunOptions;
  readonly recorder: RunRecorder;
  readonly signal: AbortSignal;
  readonly nix: Nix;
  readonly mirror: string;
  /** Where this run's GC roots go. */
  readonly rootsFolder: string;
  readonly source: FlakeSource;
  /** The source is that of an earlier release, on purpose. */
  readonly rollback?: Rollback | undefined;
  /** Signs the manifest; present whenever the goal is to publish. */
  readonly key: SecretKey | undefined;
}

/** What the stages after evaluation know. */
export interface Discovered {
  readonly fleet: FleetFacts;
  readonly previous: PreviousRelease | undefined;
  /** The release that grants are judged by, and that a testing release goes on top of: else the same as `previous`. */
  readonly base: PreviousRelease | undefined;
  /** Where closures go; empty when nothing will be published. */
  readonly caches: readonly CacheSetting[];
}

/** A release that stands, and the hosts that it left behind. */
export interface Standing {
  readonly fleet: FleetFacts;
  readonly manifest: ReleaseManifest;
  readonly before: ReleaseManifest | undefined;
  readonly failures: ReadonlyMap<string, SlipwayError>;
  readonly note: string;
  readonly kind: 'done' | 'nothing-to-do';
}
