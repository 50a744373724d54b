// What can be wrong with a fleet's secrets. Problems are data and are gathered, so that a person sees all of them
// at once instead of one a run; only then does a run stop, with nothing written.
import { SlipwayError } from '../util/errors.ts';

export type SecretProblemCode =
  | 'file_outside_repository'
  | 'file_missing'
  | 'file_differs'
  | 'rekey_storage'
  | 'file_unmanaged'
  | 'source_embedded'
  | 'path_hostile'
  | 'host_key_missing'
  | 'host_key_unusable'
  | 'host_key_shared'
  | 'host_key_tag_collision'
  | 'recipients_mixed'
  | 'source_malformed'
  | 'source_undecryptable'
  | 'source_damaged'
  | 'plaintext_empty'
  | 'previous_missing'
  | 'rekeyer_can_read'
  | 'rekeyer_unusable'
  | 'release_recipients_wrong'
  | 'release_unmanaged'
  | 'release_unused'
  | 'release_file_missing'
  | 'release_file_differs'
  | 'record_wrong'
  | 'policy_wrong'
  | 'grant_denied'
  | 'grant_unapproved'
  | 'editor_denied';

export interface SecretProblem {
  readonly code: SecretProblemCode;
  /** The cause, for a person. Never a byte of a secret. */
  readonly message: string;
  /** What to do about it. */
  readonly next?: string;
  readonly host?: string;
  /** Attribute name in `age.secrets`. */
  readonly secret?: string;
  /** Path in the repository, or as Nix gave it. */
  readonly path?: string;
}

const SHOWN = 20;

/** All problems as one failure: the text names up to 20, `facts.problems` holds every one. */
export function secretsFailed(problems: readonly SecretProblem[]): SlipwayError {
  const lines = problems.slice(0, SHOWN).map((problem) => problem.message);
  if (problems.length > SHOWN) lines.push(`… and ${problems.length - SHOWN} more (--json lists all).`);
  const message = lines.length === 1 ? (lines[0] ?? '') : `${problems.length} problems:\n${lines.join('\n')}`;
  const nexts = [...new Set(problems.flatMap((problem) => problem.next ?? []))].slice(0, 3);
  return new SlipwayError('secrets_failed', message, {
    ...(nexts.length > 0 && { next: nexts.join(' ') }),
    facts: { problems },
  });
}

/** Throws `secrets_failed` when there is any problem. */
export function assertNoProblems(problems: readonly SecretProblem[]): void {
  if (problems.length > 0) throw secretsFailed(problems);
}
