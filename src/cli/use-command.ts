// `slipway use`: let this machine's Nix read a cache: substituter and key in nix.conf, token in netrc. Doing it again
// changes nothing; several caches, also of one server, stand side by side.
import { join } from 'node:path';
import type { Command } from 'commander';
import { CacheEndpoint } from '../client/cache-endpoint.ts';
import { configHome, resolveCache, type NamedCache } from '../client/known-servers.ts';
import { editNetrc } from '../client/netrc.ts';
import { editNixConf, findSetting } from '../client/nix-conf.ts';
import { findTextFile, replaceFile } from '../client/replace-file.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';

interface UseFlags {
  readonly system?: boolean;
  readonly json?: boolean;
}

interface Used {
  readonly substituter: string;
  readonly publicKey: string;
  readonly nixConf: string;
  readonly netrc: string | undefined;
  readonly changed: boolean;
}

export function registerUse(program: Command, io: CliIo): void {
  program
    .command('use')
    .description("Let this machine's Nix read a cache")
    .argument(
      '<cache>',
      'URL, <server>:<cache>, or the name of a cache on the server that was logged in to last',
    )
    .option('--system', 'for everybody: /etc/nix instead of ~/.config/nix')
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExamples:\n  slipway use main\n  sudo slipway use https://cache.example.org/main --system',
    )
    .action(async (name: string, flags: UseFlags) => {
      const cache = await resolveCache(io.env, name);
      const used = await applyUse(cache, folderOf(flags, io), io.signal);
      io.stdout(flags.json === true ? `${JSON.stringify(used)}\n` : render(used));
    });
}

function folderOf(flags: UseFlags, io: CliIo): string {
  return flags.system === true ? '/etc/nix' : join(configHome(io.env), 'nix');
}

async function applyUse(cache: NamedCache, folder: string, signal: AbortSignal): Promise<Used> {
  const publicKey = await findPublicKey(cache, signal);
  const nixConf = join(folder, 'nix.conf');
  const before = (await findTextFile(nixConf)) ?? '';
  const netrc =
    cache.token === undefined ? undefined : (findSetting(before, 'netrc-file') ?? join(folder, 'netrc'));
  const after = editNixConf(before, { substituter: cache.url, publicKeys: [publicKey], netrcFile: netrc });
  const changedNetrc = netrc !== undefined && (await useNetrc(netrc, cache));
  if (after !== before) await replaceFile(nixConf, after, 0o644);
  return { substituter: cache.url, publicKey, nixConf, netrc, changed: changedNetrc || after !== before };
}

async function useNetrc(path: string, cache: NamedCache): Promise<boolean> {
  const before = (await findTextFile(path)) ?? '';
  const after = editNetrc(before, new URL(cache.server).hostname, cache.token ?? '');
  if (after !== before) await replaceFile(path, after, 0o600);
  return after !== before;
}

/** From the cache itself: whoever trusts its address over TLS trusts what it says of its key. */
async function findPublicKey(cache: NamedCache, signal: AbortSignal): Promise<string> {
  using endpoint = new CacheEndpoint(cache);
  const text = await endpoint.find('attic-cache-info', signal);
  const [, key] = /"public_key":"([A-Za-z0-9._+-]+:[A-Za-z0-9+/]{43}=)"/.exec(text ?? '') ?? [];
  if (key !== undefined) return key;
  throw new SlipwayError('not_found', `There is no cache at ${cache.url} that tells its key.`, {
    next: 'Check the name; for other kinds of caches write substituters and trusted-public-keys by hand.',
  });
}

function render({ substituter, publicKey, nixConf, netrc, changed }: Used): string {
  if (!changed) return `${nixConf} uses ${substituter} already.\n`;
  const token = netrc === undefined ? '' : `  token  ${netrc}\n`;
  return `Nix reads ${substituter} from now on.\n  key    ${publicKey}\n  file   ${nixConf}\n${token}`;
}
