// How Nix is pointed at a commit that may be published nowhere: `git+file://<mirror>?ref=<full ref>&rev=<commit>`.
// Nix 2.8 fetches the named ref into its own cache, so a commit needs a ref; the full `refs/…` form is understood by
// every version. Pinned by `rev`, the reference is locked: pure evaluation, no network, no second fetch.
import { pathToFileURL } from 'node:url';

export interface FlakeSource {
  readonly mirror: string;
  /** Full name of a ref in the mirror that leads to the commit. */
  readonly ref: string;
  readonly commit: string;
}

/** The flake reference of the commit. */
export function formatFlakeUrl(source: FlakeSource): string {
  const query = new URLSearchParams({ ref: source.ref, rev: source.commit });
  return `git+${pathToFileURL(source.mirror).href}?${query.toString()}`;
}

/** A Nix expression for the flake's outputs. */
export function formatFlakeExpression(source: FlakeSource): string {
  return `(builtins.getFlake ${formatNixString(formatFlakeUrl(source))})`;
}

/** A string as a Nix literal. */
export function formatNixString(text: string): string {
  const escaped = text
    .replaceAll(/["\\]/g, String.raw`\$&`)
    .replaceAll('${', '\\${')
    .replaceAll('\n', String.raw`\n`)
    .replaceAll('\r', String.raw`\r`);
  return `"${escaped}"`;
}

/** The command with which a person repeats a host's build on a machine of their own. */
export function formatBuildCommand(repository: string, branch: string, commit: string, host: string): string {
  const isPath = repository.startsWith('/');
  const url = isPath ? pathToFileURL(repository).href : repository.replace(/^([^/@]+@[^:/]+):/, 'ssh://$1/');
  const query = new URLSearchParams({ ref: branch, rev: commit });
  const flake = `git+${url}?${query.toString()}#nixosConfigurations.${host}.config.system.build.toplevel`;
  return `nix build -L '${flake}'`;
}
