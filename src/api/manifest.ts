// The release manifest: the signed list host -> toplevel that travels beside the release branch.
// It lives in a branch of its own (`<release>-manifest`, file `manifest.json` with `manifest.json.sig`), pushed
// atomically with the release, because it names store paths that were built from exactly that commit.
import * as z from 'zod/mini';
import { hostHooks } from './deploy-hooks.ts';
import { healthConfig, hostName, rebootPolicy } from './fleet-config.ts';

export const gitCommit = z.string().check(z.regex(/^[0-9a-f]{40}([0-9a-f]{24})?$/, 'not a commit id'));
export const storePathText = z
  .string()
  .check(
    z.regex(/^\/nix\/store\/[0-9abcdfghijklmnpqrsvwxyz]{32}-[A-Za-z0-9+._?=-]{1,211}$/, 'not a store path'),
  );

export const manifestHost = z.strictObject({
  system: z.string(),
  toplevel: storePathText,
  mode: z.enum(['push', 'pull', 'manual']),
  wave: z.int(),
  /** `built`: in the caches. `deferred`: CI could not build it, the host builds it itself. `kept`: carried over. */
  state: z.enum(['built', 'deferred', 'kept']),
  /** The host's health checks, so that a pull host's trial needs no evaluation; absent: systemd alone is asked. */
  health: z.optional(healthConfig),
  /** What to do when it needs a reboot; absent: the agent's own setting, else `later`. */
  reboot: z.optional(rebootPolicy),
  /** Hooks that run on the host itself, those of the fleet around its own; absent: none. */
  hooks: z.optional(hostHooks),
});

export const releaseManifest = z.strictObject({
  version: z.literal(1),
  /** Grows by one with each release; an agent never goes back to a smaller one. */
  serial: z.int().check(z.minimum(1)),
  branch: z.string(),
  /** The release commit and its tree. */
  commit: gitCommit,
  tree: gitCommit,
  /** The commit of the source branch that this release was made from. */
  source: gitCommit,
  previous: z.optional(gitCommit),
  createdAt: z.iso.datetime(),
  hosts: z.record(hostName, manifestHost),
  caches: z.array(z.strictObject({ url: z.string(), publicKeys: z.array(z.string()) })),
});

export type ManifestHost = z.infer<typeof manifestHost>;
export type ReleaseManifest = z.infer<typeof releaseManifest>;

export const MANIFEST_FILE = 'manifest.json';
export const MANIFEST_SIGNATURE_FILE = 'manifest.json.sig';

/** Branch that carries the manifests of a release branch. */
export function manifestBranch(releaseBranch: string): string {
  return `${releaseBranch}-manifest`;
}

/** What is signed: a domain separator, then the manifest file's exact bytes. */
export function signedManifestBytes(manifestFile: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from('slipway-manifest-v1\n'), manifestFile]);
}

/** The manifest file's bytes: sorted keys, two-space indent, final newline. */
export function formatManifest(manifest: ReleaseManifest): Uint8Array {
  const sorted = {
    ...manifest,
    hosts: Object.fromEntries(Object.entries(manifest.hosts).toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
  return Buffer.from(JSON.stringify(sorted, undefined, 2) + '\n');
}
