// The servers that this user has logged in to, and what a cache's name on the command line means.
import { join } from 'node:path';
import { clientConfig, type ClientConfig, type KnownServer } from '../api/client-config.ts';
import { formatIssue } from '../api/issue-text.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';
import type { CacheTarget } from './cache-endpoint.ts';
import { findTextFile, replaceFile } from './replace-file.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** `$XDG_CONFIG_HOME`, else `~/.config`. */
export function configHome(env: Environment): string {
  const home = env['XDG_CONFIG_HOME'];
  if (home !== undefined && home.startsWith('/')) return home;
  if (env['HOME'] === undefined)
    throw new SlipwayError('invalid', 'Neither HOME nor XDG_CONFIG_HOME is set.');
  return join(env['HOME'], '.config');
}

export async function readKnownServers(env: Environment): Promise<ClientConfig> {
  const path = fileOf(env);
  const text = await findTextFile(path);
  if (text === undefined) return { version: 1, servers: {} };
  const parsed = clientConfig.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `${path} does not fit: ${formatIssue(parsed.error.issues[0])}.`, {
    next: 'Correct it, or remove it and log in again.',
  });
}

/** Remembers a server and makes it the default. */
export async function rememberServer(env: Environment, name: string, server: KnownServer): Promise<void> {
  const before = await readKnownServers(env);
  const config = clientConfig.safeParse({
    ...before,
    default: name,
    servers: { ...before.servers, [name]: server },
  });
  if (!config.success)
    throw new SlipwayError('invalid', `This cannot be remembered: ${formatIssue(config.error.issues[0])}.`);
  await replaceFile(fileOf(env), `${JSON.stringify(config.data, null, 2)}\n`, 0o600);
}

export interface NamedCache extends CacheTarget {
  /** `https://host[:port]` */
  readonly server: string;
  readonly cache: string;
}

/** A cache's URL, `server:cache`, or the bare name of a cache on the default server. */
export async function resolveCache(env: Environment, text: string): Promise<NamedCache> {
  const config = await readKnownServers(env);
  const [, server, cache] = /^(https?:\/\/[^\s/]+)\/([^\s/]+)\/?$/.exec(text) ?? [];
  if (server !== undefined && cache !== undefined) {
    const known = Object.values(config.servers).find(({ url }) => url === server);
    return target(server, cache, known?.token);
  }
  const [, name = config.default, bare = ''] = /^(?:([a-z0-9-]+):)?([\w+~.-]+)$/.exec(text) ?? [];
  const known = name === undefined ? undefined : config.servers[name];
  if (known === undefined || bare === '') throw unknown(text, Object.keys(config.servers));
  return target(known.url, bare, known.token);
}

function target(server: string, cache: string, token: string | undefined): NamedCache {
  return { url: `${server}/${cache}`, server, cache, ...(token !== undefined && { token }) };
}

function fileOf(env: Environment): string {
  return join(configHome(env), 'slipway', 'servers.json');
}

function unknown(text: string, known: readonly string[]): SlipwayError {
  return new SlipwayError(
    'not_found',
    `"${text.slice(0, 100)}" is neither the URL of a cache nor a name that is known.`,
    {
      next:
        known.length === 0
          ? 'Log in first: slipway login home https://cache.example.org'
          : `Write it like https://host/cache, or ${known[0] ?? ''}:<cache>.`,
    },
  );
}
