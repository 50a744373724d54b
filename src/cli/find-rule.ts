// The rule that agenix' secrets.nix of the working tree has for a file, evaluated as agenix does it; RULES names another.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { exec } from '../effects/exec.ts';
import { parseNixError } from '../effects/nix-error.ts';
import { parseRules, RULES_PATHS, type SecretRule } from '../secrets/secrets-rules.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Checkout } from './secrets-checkout.ts';

const TIMEOUT_MS = 60_000;

/** Undefined when there is no rules file, or none of its rules names the file. */
export async function findRule(checkout: Checkout, name: string): Promise<SecretRule | undefined> {
  const { workTree, nix } = checkout;
  if (workTree === undefined) return undefined;
  const rulesPath = findRulesFile(workTree, process.env['RULES']);
  if (rulesPath === undefined) return undefined;
  const file = path.join(workTree, rulesPath);
  const argv = ['nix-instantiate', '--eval', '--json', '--strict', file];
  const result = await exec(argv, { env: nix.env, cwd: path.dirname(file), timeoutMs: TIMEOUT_MS });
  if (result.code !== 0) throw notEvaluated(rulesPath, result.stderr);
  return parseRules(rulesPath, JSON.parse(result.stdout.toString('utf8'))).get(name);
}

function findRulesFile(workTree: string, given: string | undefined): string | undefined {
  if (given !== undefined && given !== '') return path.relative(workTree, path.resolve(given));
  return RULES_PATHS.find((name) => existsSync(path.join(workTree, name)));
}

function notEvaluated(rulesPath: string, stderr: string): SlipwayError {
  return new SlipwayError(
    'evaluation_failed',
    `${rulesPath} does not evaluate: ${parseNixError(stderr).message}`,
    {
      next: `Repeat it with: nix-instantiate --eval --strict ${rulesPath}`,
    },
  );
}
