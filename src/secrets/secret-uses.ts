// Maps what hosts use (store paths) back to files of the repository. Pure: facts in, uses and problems out.
import type { HostSecret, HostSecrets } from './host-secrets.ts';
import { matchesPath } from './path-pattern.ts';
import { findPathFault } from './secret-path.ts';
import type { SecretProblem } from './secret-problem.ts';

export interface SecretUse {
  readonly host: string;
  /** Attribute name in `age.secrets`. */
  readonly secret: string;
  /** Path of the host's file in the release. */
  readonly path: string;
  /** Path of the editors' file in the source: the same, except for agenix-rekey. */
  readonly source: string;
}

export interface SecretUseFacts {
  readonly hosts: Readonly<Record<string, HostSecrets>>;
  /** Store path of the flake's source (`sourceInfo.outPath`), where the repository's root is. */
  readonly sourceRoot: string;
  /** Hex SHA-256 of the repository's files by path: at least of those that could be secrets. */
  readonly hashes: ReadonlyMap<string, string>;
  /** Every path of the repository. */
  readonly paths: ReadonlySet<string>;
  /** Patterns of `host/secret` that may name files of other inputs: they stay as they are. */
  readonly unmanaged?: readonly string[];
}

export interface SecretUses {
  readonly uses: readonly SecretUse[];
  readonly problems: readonly SecretProblem[];
  /** What works and is not good, or is left alone on purpose. */
  readonly warnings: readonly SecretProblem[];
}

/**
 * A file is found by its place under the source root, or else by its content: a path literal that was copied
 * alone (`builtins.path`) has another store path, but ciphertext is random, so its hash names one file.
 */
export function findSecretUses(facts: SecretUseFacts): SecretUses {
  const byHash = pathsByHash(facts.hashes);
  const uses: SecretUse[] = [];
  const problems: SecretProblem[] = [];
  const warnings: SecretProblem[] = [];
  for (const [host, secrets] of sortedEntries(facts.hosts)) {
    for (const [secret, value] of sortedEntries(secrets)) {
      const found = place(locate(value, facts, byHash), value, facts);
      const say = (one: SecretProblem): SecretProblem => ({
        ...one,
        host,
        secret,
        message: `${host}: age.secrets.${secret}: ${one.message}`,
      });
      if ('source' in found) {
        uses.push({ host, secret, ...found });
        if (embedsSource(value, facts)) warnings.push(say(wholeSource(found.source)));
      } else if (isUnmanaged(`${host}/${secret}`, found, facts)) warnings.push(say(leftAlone(found)));
      else problems.push(say(found));
    }
  }
  return { uses, problems, warnings };
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

interface Place {
  readonly path: string;
  readonly source: string;
}

/** Where the host's file goes: over the editors' file, or for agenix-rekey where its module will look for it. */
function place(
  found: string | SecretProblem,
  { rekeyed, target }: HostSecret,
  facts: SecretUseFacts,
): Place | SecretProblem {
  if (typeof found !== 'string') return found;
  if (!rekeyed) return { path: found, source: found };
  const path = target === null ? undefined : pathUnderRoot(target, facts.sourceRoot);
  return path === undefined ? noStorage(found) : (hostile(path) ?? { path, source: found });
}

function noStorage(path: string): SecretProblem {
  return {
    code: 'rekey_storage',
    path,
    message: 'agenix-rekey keeps the host’s copy outside of the repository.',
    next: 'Set age.rekey.storageMode = "local" and age.rekey.localStorageDir to a folder of the flake.',
  };
}

/** agenix puts the store path into the system: a string below the root keeps the root in it, which every commit changes. */
function embedsSource(value: HostSecret, facts: SecretUseFacts): boolean {
  return value.text && pathUnderRoot(value.file, facts.sourceRoot) !== undefined;
}

function isUnmanaged(name: string, { code }: SecretProblem, { unmanaged = [] }: SecretUseFacts): boolean {
  return code === 'file_outside_repository' && unmanaged.some((pattern) => matchesPath(pattern, name));
}

function wholeSource(path: string): SecretProblem {
  return {
    code: 'source_embedded',
    path,
    message: `the file is given as text ("\${self}/${path}"), so every commit changes this host's system.`,
    next: `Give it as a path: file = ./${path};`,
  };
}

function leftAlone({ path }: SecretProblem): SecretProblem {
  return {
    code: 'file_unmanaged',
    ...(path !== undefined && { path }),
    message: `${path ?? 'the file'} is not of this repository and stays as it is (slipway.secrets.unmanaged).`,
  };
}

function outside(value: HostSecret): SecretProblem {
  return {
    code: 'file_outside_repository',
    path: value.file,
    message: `${value.file} is not a file of this repository${value.built ? ' but built by a derivation' : ''}.`,
    next: 'Keep the age file in the repository, so that it can be re-encrypted for the host; or name it in slipway.secrets.unmanaged.',
  };
}
