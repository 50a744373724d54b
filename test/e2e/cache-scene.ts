// A Nix store and a home of its own, in a temporary folder, for tests of the cache with the real nix.
// The store lies below another root, so nothing of the machine's own /nix is read or written.
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exec, type ExecResult } from '../../src/effects/exec.ts';
import { parseSecretKey, publicKeyOf } from '../../src/nix/signature.ts';
import type { CacheServer } from '../contract/cache-server.ts';

export { issueToken, openCacheServer, type CacheServer } from '../contract/cache-server.ts';

export interface NixClient {
  readonly home: string;
  /** `local?root=…` of the client's store. */
  readonly store: string;
  run(...argv: string[]): Promise<ExecResult>;
}

/** A client with its own home, netrc and empty store. */
export function makeNixClient(directory: string, name: string, token?: string): NixClient {
  const home = join(directory, name);
  mkdirSync(home);
  const netrc = join(home, 'netrc');
  writeFileSync(netrc, token === undefined ? '' : `machine 127.0.0.1 login nix password ${token}\n`, {
    mode: 0o600,
  });
  const config = [
    'experimental-features = nix-command flakes',
    'substituters =',
    'build-users-group =',
    'sandbox = false',
    'require-sigs = true',
    `netrc-file = ${netrc}`,
  ];
  const env = {
    HOME: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    NIX_CONFIG: config.join('\n'),
    NIX_REMOTE: undefined,
  };
  return {
    home,
    store: `local?root=${join(home, 'root')}`,
    run: async (...argv) => await exec(argv, { env, timeoutMs: 60_000 }),
  };
}

export interface BuiltPaths {
  /** An input-addressed path that refers to `dependency`. */
  readonly top: string;
  /** An input-addressed path of a few MB with files, a directory and a symlink. */
  readonly dependency: string;
  /** The derivation of `top`. */
  readonly derivation: string;
}

/** Really builds two paths in the client's store; the builder is a static busybox, as the store has no shell. */
export async function buildPaths(client: NixClient, salt: string): Promise<BuiltPaths> {
  const tools = join(client.home, 'tools');
  mkdirSync(join(tools, 'bin'), { recursive: true });
  copyFileSync('/bin/busybox', join(tools, 'bin', 'busybox'));
  const file = join(client.home, `paths-${salt}.nix`);
  writeFileSync(file, expression(tools, salt));
  const store = ['--store', client.store];
  const derivation = await ok(client.run('nix-instantiate', ...store, file));
  const top = await ok(client.run('nix-store', ...store, '--realise', derivation));
  const references = await ok(client.run('nix-store', ...store, '--query', '--references', top));
  return { top, dependency: references, derivation };
}

function expression(tools: string, salt: string): string {
  return `let
    busybox = "\${builtins.path { path = ${tools}; name = "tools"; }}/bin/busybox";
    make = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = busybox; args = [ "sh" "-euc" script ];
    };
    dependency = make "dependency-${salt}" ''
      \${busybox} mkdir -p $out/bin
      i=0; while [ $i -lt 60000 ]; do echo "line $i of ${salt}"; i=$((i+1)); done > $out/lines
      echo run > $out/bin/run; \${busybox} chmod +x $out/bin/run; \${busybox} ln -s bin/run $out/link
    '';
  in make "top-${salt}" ''
    echo "building ${salt}"
    \${busybox} mkdir $out; echo \${dependency} > $out/dependency
  ''`;
}

/** The trimmed stdout of a run that must succeed. */
export async function ok(run: Promise<ExecResult>): Promise<string> {
  const { code, stdout, stderr } = await run;
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return stdout.toString().trim();
}

export function publicKeyOfCache(server: CacheServer, name: string): string {
  return publicKeyOf(parseSecretKey(readFileSync(join(server.data, 'keys', `cache-${name}.key`), 'utf8')));
}

/** A folder below the system's temporary one, removed at the end whatever happens. */
export function temporaryFolder(name: string): { readonly path: string; remove(): Promise<void> } {
  const path = mkdtempSync(join(tmpdir(), `slipway-${name}-`));
  return {
    path,
    remove: async () => {
      await exec(['chmod', '-R', 'u+w', path]); // store paths are read-only
      rmSync(path, { recursive: true, force: true });
    },
  };
}
