// The NixOS system inside deploy-rs' wrapper (`activatable-nixos-system-…`): what is deployed is the toplevel itself,
// because a boot loader makes default only what is in the system profile under its own path.
import type { Host } from '../effects/host.ts';
import { realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

const STORE_ROOT = /^\/nix\/store\/[0-9a-z]{32}-[^/]+$/;

/** The toplevel's path, or undefined when the package holds none. A toplevel resolves to itself. */
export async function resolveActivatable(path: string): Promise<string | undefined> {
  const files = await Promise.all(
    [join(path, 'nixos-version'), join(path, 'bin/switch-to-configuration')].map(
      async (file) => await realpath(file).catch(() => undefined),
    ),
  );
  const [version, script] = files;
  if (version === undefined || script === undefined) return undefined;
  for (const candidate of [dirname(version), dirname(dirname(script))])
    if (STORE_ROOT.test(candidate) && (await isToplevel(candidate))) return candidate;
  return undefined;
}

async function isToplevel(path: string): Promise<boolean> {
  const wanted = ['nixos-version', 'bin/switch-to-configuration', 'activate'];
  const found = await Promise.all(
    wanted.map(
      async (name) =>
        await stat(join(path, name)).then(
          () => true,
          () => false,
        ),
    ),
  );
  return found.every(Boolean);
}

const RESOLVE_TIMEOUT_MS = 30_000;
const RESOLVE = `
for file in "$1/nixos-version" "$1/bin/switch-to-configuration"; do
  top=$(readlink -f "$file") || continue
  case $file in */bin/*) top=\${top%/*} ;; esac
  top=\${top%/*}
  [ -e "$top/nixos-version" ] && [ -x "$top/bin/switch-to-configuration" ] && [ -e "$top/activate" ] &&
    { echo "$top"; exit; }
done
true`;

/** The same for a package that only the host has. */
export async function resolveActivatableOn(host: Host, path: string): Promise<string | undefined> {
  const argv = ['sh', '-c', RESOLVE, 'sh', path];
  const result = await host.run(argv, { timeoutMs: RESOLVE_TIMEOUT_MS });
  const found = result.stdout.toString('utf8').trim();
  return STORE_ROOT.test(found) ? found : undefined;
}
