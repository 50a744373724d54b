// Publishes a release: signs the manifest, commits it beside the release, and moves both branches at once by
// compare-and-swap. Before this the world has seen nothing; after it the release stands.
import {
  formatManifest,
  MANIFEST_FILE,
  MANIFEST_SIGNATURE_FILE,
  manifestBranch,
  type ReleaseManifest,
  signedManifestBytes,
} from '../api/manifest.ts';
import { pushBranches } from '../effects/git-mirror.ts';
import type { CommitSigning } from '../effects/git-signature.ts';
import type { GitRemote } from '../effects/git-remote.ts';
import { commitTree, writeFlatTree } from '../effects/git-tree.ts';
import { type SecretKey, signText } from '../nix/signature.ts';
import type { PreviousRelease } from './release-history.ts';

export interface PublishRequest {
  readonly mirror: string;
  readonly remote: GitRemote;
  readonly key: SecretKey;
  readonly manifest: ReleaseManifest;
  readonly previous: PreviousRelease | undefined;
  readonly at: Date;
  readonly signing: CommitSigning | undefined;
  readonly signal: AbortSignal;
}

/** Fails with `publish_conflict` when a branch moved meanwhile; then nothing has changed. */
export async function publishRelease(request: PublishRequest): Promise<void> {
  const { manifest, previous, mirror } = request;
  const commit = await writeManifestCommit(request);
  const updates = [
    { branch: manifest.branch, from: previous?.manifest.commit, to: manifest.commit },
    { branch: manifestBranch(manifest.branch), from: previous?.manifestCommit, to: commit },
  ];
  await pushBranches(mirror, request.remote, updates, { signal: request.signal });
}

async function writeManifestCommit(request: PublishRequest): Promise<string> {
  const { manifest, previous } = request;
  const file = formatManifest(manifest);
  const signature = signText(request.key, signedManifestBytes(file));
  const tree = await writeFlatTree(request.mirror, {
    [MANIFEST_FILE]: file,
    [MANIFEST_SIGNATURE_FILE]: Buffer.from(`${signature}\n`),
  });
  const parents = previous === undefined ? [] : [previous.manifestCommit];
  const message = `Manifest of release ${manifest.serial}\n\nSlipway-Release: ${manifest.commit}\n`;
  const { at, signing } = request;
  return await commitTree(request.mirror, { tree, parents, message, at, signing });
}
