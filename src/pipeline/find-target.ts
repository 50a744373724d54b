// Which source a run releases, and where: the branch's tip or the given commit, or for a rollback the source that an
// earlier release was made from; what the branch holds now then only names the place.
import { setRef } from '../effects/git-tree.ts';
import { parsePublicKey, publicKeyOf } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';
import { discoverFleet } from './evaluate-stage.ts';
import type { FleetFacts } from './fleet-facts.ts';
import type { FlakeSource } from './flake-source.ts';
import { findPreviousRelease, type ReleasePlace } from './release-history.ts';
import { findRollback } from './rollback-release.ts';
import type { RunContext } from './run-context.ts';

const ROLLBACK_REF = 'refs/heads/slipway-rollback';

/** The context with the source that is released. */
export async function findTarget(
  context: RunContext,
  tips: ReadonlyMap<string, string>,
): Promise<RunContext> {
  const { rollbackTo } = context.options;
  if (rollbackTo === undefined) return context;
  const place = releasePlace(await discoverFleet(context.source, context), context);
  const previous = await findPreviousRelease(place, tips);
  if (previous === undefined)
    throw new SlipwayError('not_found', `There is no release ${rollbackTo}: the fleet was never released.`);
  const rollback = await findRollback(place, previous, rollbackTo);
  return { ...context, rollback, source: await pin(context.mirror, rollback.source) };
}

/** Where a fleet's releases are, and who must have signed them. */
export function releasePlace(fleet: FleetFacts, { mirror, key, options }: RunContext): ReleasePlace {
  const trusted = [...(key ? [publicKeyOf(key)] : []), ...(options.trustedKeys ?? [])];
  const keys = trusted.length > 0 ? trusted.map(parsePublicKey) : undefined;
  const { allowedSignersFile } = options;
  return { mirror, branch: fleet.config.release.branch, keys, allowedSignersFile };
}

/** Nix needs a ref that leads to the commit. */
async function pin(mirror: string, commit: string): Promise<FlakeSource> {
  await setRef(mirror, ROLLBACK_REF, commit);
  return { mirror, ref: ROLLBACK_REF, commit };
}
