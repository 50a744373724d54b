// Whose tokens a server takes: its own, Attic's (with a key that the first start makes, and those of the configuration),
// and job tokens of the identity providers in the configuration.
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ServerConfig } from '../api/server-config.ts';
import { parseAtticKey, type AtticVerifier } from '../auth/attic-token.ts';
import type { CallerFinder } from '../auth/caller.ts';
import { openCallers } from '../auth/callers.ts';
import { OidcCallers } from '../auth/oidc-callers.ts';
import type { TokenRegistry } from '../auth/token-registry.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { SlipwayError } from '../util/errors.ts';

export interface ServerIdentities {
  readonly callers: CallerFinder;
  readonly oidc: OidcCallers;
}

export async function openServerIdentities(
  config: Pick<ServerConfig, 'attic' | 'oidc'>,
  keysDirectory: string,
  tokens: TokenRegistry,
): Promise<ServerIdentities> {
  const attic = [await ensureAtticVerifier(keysDirectory), ...(await configuredVerifiers(config))];
  const oidc = new OidcCallers(config.oidc);
  return { callers: openCallers({ tokens, attic, oidc }), oidc };
}

/** The key that this server signs Attic's tokens with: keys/attic-hs256.secret, base64 as in Attic's server.toml. */
export async function ensureAtticVerifier(keysDirectory: string): Promise<AtticVerifier> {
  await mkdir(keysDirectory, { recursive: true, mode: 0o700 });
  const path = join(keysDirectory, 'attic-hs256.secret');
  const text = (await findSecret(path)) ?? (await makeSecret(path));
  return { key: parseAtticKey('HS256', text) };
}

async function configuredVerifiers({ attic }: Pick<ServerConfig, 'attic'>): Promise<AtticVerifier[]> {
  const { issuer, audiences } = attic;
  const bound = { ...(issuer !== undefined && { issuer }), ...(audiences !== undefined && { audiences }) };
  const wanted = [
    ...attic.hs256.map((reference) => ({ algorithm: 'HS256' as const, reference })),
    ...attic.rs256.map((reference) => ({ algorithm: 'RS256' as const, reference })),
  ];
  return await Promise.all(
    wanted.map(async ({ algorithm, reference }) => ({
      key: parseAtticKey(algorithm, await readSecretReference(reference)),
      ...bound,
    })),
  );
}

async function findSecret(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, 'r');
    if (((await file.stat()).mode & 0o077) === 0) return await readFile(file, 'utf8');
    throw new SlipwayError('invalid', `${path} can be read by others.`, { next: `chmod 600 ${path}` });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function makeSecret(path: string): Promise<string> {
  const text = randomBytes(64).toString('base64');
  try {
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(`${text}\n`);
    await file.sync();
    return text;
  } catch (error) {
    // The server and a command may come at the same time; the first one has made it.
    const found = await findSecret(path);
    if (found !== undefined) return found;
    throw error;
  }
}
