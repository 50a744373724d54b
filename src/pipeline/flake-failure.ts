// What a person is told when Nix cannot evaluate their flake: the error, its place, and what to do about it.
import { isCode, SlipwayError } from '../util/errors.ts';

/** Why a flake's outputs cannot be read, with the commonest mistake named; other errors stay as they are. */
export function explainFlake(error: unknown): unknown {
  if (!isCode(error, 'evaluation_failed')) return error;
  const missing =
    /(does not contain a|path|getting status of) '(\/nix\/store\/[^/']+\/)?flake\.nix'|flake\.nix' does not exist|is not a flake/;
  const detail = describeEvaluation(error);
  if (missing.test(detail))
    return new SlipwayError('evaluation_failed', 'The commit has no flake.nix at its root.', {
      next: 'Commit a flake.nix; "git add" it first, since flakes see only what git tracks.',
      cause: error,
    });
  return new SlipwayError('evaluation_failed', `The flake does not evaluate: ${detail}`, {
    next: nextAfterEvaluation(error, 'nixosConfigurations --apply builtins.attrNames'),
    cause: error,
    facts: error.facts,
  });
}

/** The error and, where Nix gave one, the place in the source below it. */
export function describeEvaluation(error: SlipwayError): string {
  const detail = error.facts['detail'];
  const lines = typeof detail === 'string' ? detail.split('\n').slice(1) : [];
  const place = lines.map((line) => line.trimEnd()).filter((line) => line !== '');
  const indent = Math.min(...place.map((line) => line.search(/\S/)));
  return [error.message, ...place.slice(0, 10).map((line) => line.slice(indent))].join('\n  ');
}

/** The commonest mistake deserves its own answer: a file that is there, but not in git. */
export function nextAfterEvaluation(error: SlipwayError, attribute: string): string {
  const [, absent] =
    /'([^']+)'(?:: No such file or directory| does not exist| is not tracked)/.exec(error.message) ?? [];
  return absent === undefined
    ? `See more with: nix eval --show-trace .#${attribute}`
    : `Check that ${absent} is committed ("git add"): flakes see only what git tracks.`;
}
