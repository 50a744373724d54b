// The Nix expressions for one host, and their values: its secrets (of the source), its secrets and toplevel (of the
// release commit). Asking for `drvPath` writes the derivation to the store; nothing is built.
import * as z from 'zod/mini';
import { storePathText } from '../api/manifest.ts';
import { type HostSecrets, parseHostSecrets } from '../secrets/host-secrets.ts';
import { secretsExpression } from '../secrets/secrets-expression.ts';
import { SlipwayError } from '../util/errors.ts';
import { type FlakeSource, formatFlakeExpression, formatNixString } from './flake-source.ts';

export interface ToplevelFacts {
  readonly drvPath: string;
  readonly outPath: string;
  readonly system: string;
}

/** What the release commit says about a host. */
export interface HostFacts extends ToplevelFacts, SourceHostFacts {
  /** Store path of the release's source. */
  readonly sourceRoot: string;
}

/** What the source says about a host. */
export interface SourceHostFacts {
  readonly secrets: HostSecrets;
  /** Those of its home-manager users, which the users' keys open. */
  readonly users: Readonly<Record<string, HostSecrets>>;
}

const hostFacts = z.object({
  drvPath: storePathText.check(z.regex(/\.drv$/)),
  toplevel: storePathText,
  system: z.string().check(z.regex(/^[a-z0-9_]+-[a-z0-9_]+$/)),
  sourceRoot: z.string(),
  secrets: z.unknown(),
  users: z.unknown(),
});

export function sourceHostExpression(source: FlakeSource, host: string): string {
  return `(${secretsExpression}) ${hostExpression(source, host)}`;
}

export function parseSourceHostFacts(host: string, value: unknown): SourceHostFacts {
  const { secrets, users } = secretFacts.parse(value);
  const ofUsers = Object.entries(users).map(([user, own]) => [
    user,
    parseHostSecrets(`${user}@${host}`, own),
  ]);
  return { secrets: parseHostSecrets(host, secrets), users: Object.fromEntries(ofUsers) };
}

const secretFacts = z.object({
  secrets: z._default(z.unknown(), {}),
  users: z._default(z.record(z.string(), z.unknown()), {}),
});

export function releaseHostExpression(source: FlakeSource, host: string): string {
  return `let
    flake = ${formatFlakeExpression(source)};
    host = flake.nixosConfigurations.${formatNixString(host)};
    toplevel = host.config.system.build.toplevel;
  in {
    inherit (toplevel) drvPath system;
    toplevel = toplevel.outPath; # not "outPath": Nix prints a set that has one as that string alone
    sourceRoot = builtins.unsafeDiscardStringContext (toString flake.sourceInfo.outPath);
    inherit ((${secretsExpression}) host) secrets users;
  }`;
}

export function parseHostFacts(host: string, value: unknown): HostFacts {
  const parsed = hostFacts.safeParse(value);
  if (!parsed.success)
    throw new SlipwayError(
      'evaluation_failed',
      `nixosConfigurations.${host}.config.system.build.toplevel is not a derivation of /nix/store.`,
      { next: 'Build it by hand to see what it is: nix eval .#nixosConfigurations.' + host },
    );
  const { toplevel: outPath, drvPath, system, sourceRoot } = parsed.data;
  return { outPath, drvPath, system, sourceRoot, ...parseSourceHostFacts(host, parsed.data) };
}

function hostExpression(source: FlakeSource, host: string): string {
  return `${formatFlakeExpression(source)}.nixosConfigurations.${formatNixString(host)}`;
}
