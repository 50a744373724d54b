// One attribute of a flake as the user names it, as JSON.
import { exec } from '../effects/exec.ts';
import type { Nix } from '../effects/nix-cli.ts';
import { parseNixError } from '../effects/nix-error.ts';
import { SlipwayError } from '../util/errors.ts';

const EVALUATE_TIMEOUT_MS = 600_000;

export interface Evaluation {
  readonly nix: Nix;
  readonly flake: string;
  readonly attribute: string;
  readonly apply: string;
  readonly cwd: string;
  readonly signal: AbortSignal;
}

/** Undefined when the flake has no such output. */
export async function evaluateAttribute(what: Evaluation): Promise<unknown> {
  const argv = ['nix', 'eval', '--json', `${what.flake}#${what.attribute}`, '--apply', what.apply];
  const { nix, cwd, signal } = what;
  const result = await exec(argv, { env: nix.env, cwd, signal, timeoutMs: EVALUATE_TIMEOUT_MS });
  if (result.code === 0) return JSON.parse(result.stdout.toString('utf8')) as unknown;
  if (/does not provide attribute/.test(result.stderr)) return undefined;
  const { message, detail } = parseNixError(result.stderr);
  if (/is not part of a flake|flake\.nix|No such file or directory$/.test(message))
    throw new SlipwayError('evaluation_failed', `There is no flake at ${what.flake}: ${message}`, {
      next: "Run this in the fleet's checkout, or name it: --flake PATH",
    });
  throw new SlipwayError('evaluation_failed', `${what.flake} does not evaluate: ${message}`, {
    next: `Repeat it with: nix eval ${what.flake}#${what.attribute}`,
    facts: { detail },
  });
}
