// The release before this one: the tips of the release branch and of its manifest branch, believed only when the
// manifest is signed by a key of ours and names exactly that tip (anything else is tampering, so stop).
import { formatIssue } from '../api/issue-text.ts';
import {
  MANIFEST_FILE,
  MANIFEST_SIGNATURE_FILE,
  manifestBranch,
  releaseManifest,
  type ReleaseManifest,
  signedManifestBytes,
} from '../api/manifest.ts';
import { findObject, isAncestor, readBlobs } from '../effects/git-tree.ts';
import { assertCommitSigned } from '../effects/git-signature.ts';
import { type PublicKey, verifyText } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';

export interface PreviousRelease {
  readonly manifest: ReleaseManifest;
  /** Tip of the manifest branch. */
  readonly manifestCommit: string;
}

export interface ReleasePlace {
  readonly mirror: string;
  /** Name of the release branch. */
  readonly branch: string;
  /** Keys whose releases are continued; undefined: nothing will be published, so nothing needs to be believed. */
  readonly keys: readonly PublicKey[] | undefined;
  /** When given, the tip must also carry an ssh signature by one of these signers. */
  readonly allowedSignersFile?: string | undefined;
}

const MAX_SIGNATURES = 16;

/** The previous release, or undefined when there was none yet. `tips` are the remote's branches. */
export async function findPreviousRelease(
  place: ReleasePlace,
  tips: ReadonlyMap<string, string>,
): Promise<PreviousRelease | undefined> {
  const release = tips.get(place.branch);
  const manifestCommit = tips.get(manifestBranch(place.branch));
  if (release === undefined && manifestCommit === undefined) return undefined;
  if (release === undefined || manifestCommit === undefined) throw halfRelease(place.branch, release);
  const manifest = await readSignedManifest(place, manifestCommit);
  if (manifest.branch === place.branch && manifest.commit === release) {
    if (place.allowedSignersFile !== undefined)
      await assertCommitSigned(place.mirror, release, place.allowedSignersFile);
    return { manifest, manifestCommit };
  }
  throw new SlipwayError(
    'publish_conflict',
    `The tip of ${place.branch} (${short(release)}) is not the release that its manifest names (${short(manifest.commit)} of ${manifest.branch}): somebody else wrote to the branch.`,
    { next: 'Find out who pushed there; protect the branch; then set it back to the named commit.' },
  );
}

/** Refuses to release a source that does not contain the last released one: an older or rewritten branch. */
export async function assertSourceGrows(
  mirror: string,
  previous: PreviousRelease | undefined,
  source: string,
): Promise<void> {
  if (previous === undefined || previous.manifest.source === source) return;
  if (await isAncestor(mirror, previous.manifest.source, source).catch(() => false)) return;
  throw new SlipwayError(
    'publish_conflict',
    `The source ${short(source)} does not contain ${short(previous.manifest.source)}, which release ${previous.manifest.serial} was made from.`,
    {
      next: 'Merge the released commit, or release the older state on purpose with --allow-rollback.',
      facts: { source, released: previous.manifest.source },
    },
  );
}

/** The manifest of a commit of the manifest branch, or undefined when there is no such commit. */
export async function readManifestAt(
  place: ReleasePlace,
  name: string,
): Promise<ReleaseManifest | undefined> {
  const commit = await findObject(place.mirror, `${name}^{commit}`);
  return commit === undefined ? undefined : await readSignedManifest(place, commit);
}

async function readSignedManifest(place: ReleasePlace, commit: string): Promise<ReleaseManifest> {
  const names = [`${commit}:${MANIFEST_FILE}`, `${commit}:${MANIFEST_SIGNATURE_FILE}`];
  const [file, signature] = await readBlobs(place.mirror, names);
  if (!file || !signature) throw untrusted(place.branch, 'has no manifest.json with a signature');
  if (place.keys) assertSigned(place.branch, place.keys, file, signature);
  const parsed = releaseManifest.safeParse(parseJson(file.toString('utf8')));
  if (parsed.success) return parsed.data;
  throw untrusted(place.branch, `is not valid (${formatIssue(parsed.error.issues[0])})`);
}

function assertSigned(branch: string, keys: readonly PublicKey[], file: Buffer, signature: Buffer): void {
  const signatures = signature.toString('utf8').split('\n').slice(0, MAX_SIGNATURES);
  const message = signedManifestBytes(file);
  const good = signatures.some((line) => line !== '' && verifyText(keys, message, line.trim()));
  if (!good) throw untrusted(branch, 'is not signed by a key of this pipeline');
}

function untrusted(branch: string, why: string): SlipwayError {
  return new SlipwayError('signature_invalid', `The last manifest of ${branch} ${why}.`, {
    next: 'Give the key that signed it (--signing-key, --trusted-key), or choose another release branch.',
  });
}

function halfRelease(branch: string, release: string | undefined): SlipwayError {
  const [there, missing] =
    release === undefined ? [manifestBranch(branch), branch] : [branch, manifestBranch(branch)];
  return new SlipwayError(
    'publish_conflict',
    `The branch ${there} exists without ${missing}, so it was not made by Slipway.`,
    { next: 'Choose another branch with slipway.release.branch in the flake, or rename the existing one.' },
  );
}

function short(commit: string): string {
  return commit.slice(0, 12);
}
