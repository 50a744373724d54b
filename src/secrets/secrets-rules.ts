// agenix' rules file, secrets.nix: who may decrypt which file of the source branch. Names are paths relative to the file.
import path from 'node:path';
import * as z from 'zod/mini';
import { formatIssue } from '../api/issue-text.ts';
import { SlipwayError } from '../util/errors.ts';

const rules = z.record(
  z.string(),
  z.object({ publicKeys: z.array(z.string()), armor: z._default(z.boolean(), false) }),
);

export interface SecretRule {
  readonly publicKeys: readonly string[];
  readonly armor: boolean;
}

/** By path in the repository. */
export type SecretRules = ReadonlyMap<string, SecretRule>;

/** Where agenix' users keep the file, from the root of the repository. */
export const RULES_PATHS = ['secrets.nix', 'secrets/secrets.nix'] as const;

/** Reads the evaluated file; `rulesPath` is its path in the repository. */
export function parseRules(rulesPath: string, value: unknown): SecretRules {
  const parsed = rules.safeParse(value);
  if (!parsed.success) {
    throw new SlipwayError(
      'invalid',
      `${rulesPath} has another shape than agenix’: ${formatIssue(parsed.error.issues[0])}.`,
      {
        next: 'It is a set "path" -> { publicKeys = [ … ]; armor = false; }.',
      },
    );
  }
  const folder = path.posix.dirname(rulesPath);
  return new Map(
    Object.entries(parsed.data).map(([name, rule]) => [
      path.posix.normalize(path.posix.join(folder, name)),
      rule,
    ]),
  );
}
