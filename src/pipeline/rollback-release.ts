// Rollback of a release is a new release: an older source on top of the branch, with the ciphertexts that it had. What
// was rolled back is remembered in the commit, so that the next poll does not bring it right back.
import { isAncestor, readTrailer } from '../effects/git-tree.ts';
import { SlipwayError } from '../util/errors.ts';
import type { PreviousRelease } from './release-history.ts';
import { readManifestAt, type ReleasePlace } from './release-history.ts';

export const ROLLBACK_TO = 'Slipway-Rollback-To';
export const ROLLBACK_FROM = 'Slipway-Rollback-From';

export interface Rollback {
  /** The release that is gone back to. */
  readonly release: string;
  readonly source: string;
  readonly tree: string;
  /** The newest source that this rollback undoes: neither it nor what came before is released again by itself. */
  readonly from: string;
}

/** Finds the release with this serial among those before `previous`. */
export async function findRollback(
  place: ReleasePlace,
  previous: PreviousRelease,
  serial: number,
): Promise<Rollback> {
  const { manifest } = previous;
  const steps = manifest.serial - serial;
  if (serial < 1 || steps < 1) throw noSuchRelease(serial, manifest.serial);
  // Each manifest commit has one parent, the manifest before it.
  const target = await readManifestAt(place, `${previous.manifestCommit}~${steps}`);
  if (target?.serial !== serial) throw noSuchRelease(serial, manifest.serial);
  const held = await findHeldSource(place.mirror, previous);
  const stillHeld = held !== undefined && (await isAncestor(place.mirror, manifest.source, held));
  const from = stillHeld ? held : manifest.source;
  return { release: target.commit, source: target.source, tree: target.tree, from };
}

/** The source that the previous release rolled back from, if it is a rollback. */
export async function findHeldSource(mirror: string, previous: PreviousRelease): Promise<string | undefined> {
  const value = await readTrailer(mirror, previous.manifest.commit, ROLLBACK_FROM);
  return value !== undefined && /^[0-9a-f]{40,64}$/.test(value) ? value : undefined;
}

/** Whether the source is one that the previous release rolled back: then nothing is to be done with it. */
export async function isRolledBack(
  mirror: string,
  previous: PreviousRelease | undefined,
  source: string,
): Promise<boolean> {
  const held = previous && (await findHeldSource(mirror, previous));
  return held !== undefined && (await isAncestor(mirror, source, held).catch(() => false));
}

function noSuchRelease(serial: number, newest: number): SlipwayError {
  return new SlipwayError('not_found', `There is no release ${serial} before the present one (${newest}).`, {
    next: 'See them with: git log --first-parent --format="%h %s" <release branch>',
  });
}
