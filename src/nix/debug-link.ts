// Where debug information lies: `debuginfo/<build-id>[.debug]` names the file of a NAR and the member of it
// (`index-debug-info` of libstore/binary-cache-store.cc). cache.nixos.org has the names without, Nix writes those with
// `.debug`; dwarffs asks for the former, nixseparatedebuginfod2 for both. Nobody signs them.
import { SlipwayError } from '../util/errors.ts';

export interface DebugLink {
  /** 40 hex digits. */
  readonly buildId: string;
  /** File name of the NAR, in the folder `nar/` of the same cache. */
  readonly narFile: string;
}

const NAME = /^debuginfo\/([0-9a-f]{40})(?:\.debug)?$/;
const ARCHIVE = /^\.\.\/nar\/([0-9a-z]{52}\.nar(?:\.[a-z0-9]{1,5})?)$/;

/** The build-id; `undefined` when it is not the name of such a file. */
export function parseDebugLinkName(name: string): string | undefined {
  return NAME.exec(name)?.[1];
}

/** Both names under which caches have it. */
export function debugLinkNames(buildId: string): readonly [string, string] {
  return [`debuginfo/${buildId}`, `debuginfo/${buildId}.debug`];
}

/** Throws `invalid` for what points out of the cache's `nar/`, or into a NAR to something else than this debug information. */
export function parseDebugLink(text: string, buildId: string): DebugLink {
  const { archive, member } = fieldsOf(text);
  const narFile = typeof archive === 'string' ? ARCHIVE.exec(archive)?.[1] : undefined;
  if (narFile === undefined) throw invalid('its archive is not ../nar/<hash>.nar');
  if (member !== memberOf(buildId)) throw invalid(`its member is not ${memberOf(buildId)}`);
  return { buildId, narFile };
}

export function formatDebugLink({ buildId, narFile }: DebugLink): string {
  return JSON.stringify({ archive: `../nar/${narFile}`, member: memberOf(buildId) });
}

function memberOf(buildId: string): string {
  return `lib/debug/.build-id/${buildId.slice(0, 2)}/${buildId.slice(2)}.debug`;
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw invalid('it is no JSON', error);
  }
  throw invalid('it is no JSON object');
}

function invalid(why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('invalid', `The link to debug information is refused: ${why}.`, { cause });
}
