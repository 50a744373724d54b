// What two closures differ in, by package name and version, as `nix store diff-closures` tells it. Pure.

export interface PackageChange {
  readonly name: string;
  /** Versions, sorted; none: the package is new or gone. A package without a version has the version `ε`. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export interface ClosureDiff {
  readonly changes: readonly PackageChange[];
  /** Paths that only the new closure has; those of a package that kept its version are rebuilds. */
  readonly added: number;
  readonly removed: number;
}

export function diffClosures(before: readonly string[], after: readonly string[]): ClosureDiff {
  const old = new Set(before);
  const fresh = new Set(after);
  const versionsBefore = groupVersions(before);
  const versionsAfter = groupVersions(after);
  const names = [...new Set([...versionsBefore.keys(), ...versionsAfter.keys()])].toSorted();
  const changes = names.flatMap((name) => {
    const was = [...(versionsBefore.get(name) ?? [])].toSorted();
    const is = [...(versionsAfter.get(name) ?? [])].toSorted();
    return was.join(' ') === is.join(' ') ? [] : [{ name, before: was, after: is }];
  });
  return {
    changes,
    added: after.filter((path) => !old.has(path)).length,
    removed: before.filter((path) => !fresh.has(path)).length,
  };
}

function groupVersions(paths: readonly string[]): Map<string, Set<string>> {
  const groups = new Map<string, Set<string>>();
  for (const path of paths) {
    const { name, version } = splitVersion(path);
    groups.set(name, (groups.get(name) ?? new Set()).add(version));
  }
  return groups;
}

/** Nix' rule: the version begins after the first dash that no letter follows. */
function splitVersion(path: string): { readonly name: string; readonly version: string } {
  const base = path.replace(/^\/nix\/store\/[0-9a-z]{32}-/, '');
  const at = base.search(/-[^A-Za-z]/);
  return at < 0 ? { name: base, version: 'ε' } : { name: base.slice(0, at), version: base.slice(at + 1) };
}
