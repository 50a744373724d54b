// Maps what hosts use (store paths) back to files of the repository. Pure: facts in, uses and problems out.
import type { HostSecret, HostSecrets } from './host-secrets.ts';
import { findPathFault } from './secret-path.ts';
import type { SecretProblem } from './secret-problem.ts';

export interface SecretUse {
  readonly host: string;
  /** Attribute name in `age.secrets`. */
  readonly secret: string;
  /** Path in the repository. */
  readonly path: string;
}

export interface SecretUseFacts {
  readonly hosts: Readonly<Record<string, HostSecrets>>;
  /** Store path of the flake's source (`sourceInfo.outPath`), where the repository's root is. */
  readonly sourceRoot: string;
  /** Hex SHA-256 of the repository's files by path: at least of those that could be secrets. */
  readonly hashes: ReadonlyMap<string, string>;
  /** Every path of the repository. */
  readonly paths: ReadonlySet<string>;
}

export interface SecretUses {
  readonly uses: readonly SecretUse[];
  readonly problems: readonly SecretProblem[];
}

/**
 * A file is found by its place under the source root, or else by its content: a path literal that was copied
 * alone (`builtins.path`) has another store path, but ciphertext is random, so its hash names one file.
 */
export function findSecretUses(facts: SecretUseFacts): SecretUses {
  const byHash = pathsByHash(facts.hashes);
  const uses: SecretUse[] = [];
  const problems: SecretProblem[] = [];
  for (const [host, secrets] of sortedEntries(facts.hosts)) {
    for (const [secret, value] of sortedEntries(secrets)) {
      const found = locate(value, facts, byHash);
      if (typeof found === 'string') uses.push({ host, secret, path: found });
      else
        problems.push({
          ...found,
          host,
          secret,
          message: `${host}: age.secrets.${secret}: ${found.message}`,
        });
    }
  }
  return { uses, problems };
}

/** The path under the source root that Nix' file has, if it is there. */
export function pathUnderRoot(file: string, sourceRoot: string): string | undefined {
  const root = sourceRoot.replace(/\/+$/, '');
  return file.startsWith(`${root}/`) ? file.slice(root.length + 1) : undefined;
}

function locate(
  value: HostSecret,
  facts: SecretUseFacts,
  byHash: ReadonlyMap<string, readonly string[]>,
): string | SecretProblem {
  const direct = value.built ? undefined : pathUnderRoot(value.file, facts.sourceRoot);
  if (direct !== undefined) return checkDirect(direct, value, facts);
  const twins = value.sha256 === null ? [] : (byHash.get(value.sha256) ?? []);
  if (twins[0] !== undefined) return hostile(twins[0]) ?? twins[0];
  return outside(value);
}

function checkDirect(path: string, value: HostSecret, facts: SecretUseFacts): string | SecretProblem {
  const bad = hostile(path);
  if (bad !== undefined) return bad;
  if (value.sha256 === null || !facts.paths.has(path)) return missing(path);
  const committed = facts.hashes.get(path);
  return committed === undefined || committed === value.sha256 ? path : differs(path);
}

function pathsByHash(hashes: ReadonlyMap<string, string>): ReadonlyMap<string, readonly string[]> {
  const byHash = new Map<string, string[]>();
  for (const [path, hash] of hashes) byHash.set(hash, [...(byHash.get(hash) ?? []), path].toSorted());
  return byHash;
}

function sortedEntries<V>(record: Readonly<Record<string, V>>): [string, V][] {
  return Object.entries(record).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function hostile(path: string): SecretProblem | undefined {
  const fault = findPathFault(path);
  return fault === undefined
    ? undefined
    : {
        code: 'path_hostile',
        path,
        message: `the path ${JSON.stringify(path)} is refused: ${fault}.`,
        next: 'Rename the file: letters, digits, dots, dashes and slashes.',
      };
}

function missing(path: string): SecretProblem {
  return {
    code: 'file_missing',
    path,
    message: `the file ${path} is not in the commit.`,
    next: 'Write it with "slipway secrets put", and "git add" it: flakes see only what git tracks.',
  };
}

function differs(path: string): SecretProblem {
  return {
    code: 'file_differs',
    path,
    message: `Nix sees other bytes in ${path} than the commit holds.`,
    next: 'Evaluate the commit itself; a git filter or .gitattributes text conversion also changes bytes.',
  };
}

function outside(value: HostSecret): SecretProblem {
  return {
    code: 'file_outside_repository',
    path: value.file,
    message: `${value.file} is not a file of this repository${value.built ? ' but built by a derivation' : ''}.`,
    next: 'Keep the age file in the repository, so that it can be re-encrypted for the host.',
  };
}
