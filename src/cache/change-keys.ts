// Changes the signing keys of a cache and brings the change into everything that it has published.
import { parseSecretKey } from '../nix/signature.ts';
import type { Database } from '../storage/database.ts';
import type { Cache } from './cache-registry.ts';
import { resignPaths } from './resign-paths.ts';
import type { SigningKeys } from './signing-keys.ts';

/** `texts` are all keys from now on, the first one being the one that clients are told of. Returns the paths signed. */
export async function changeKeys(
  { database, keys }: { readonly database: Database; readonly keys: SigningKeys },
  cache: Cache,
  texts: readonly string[],
): Promise<number> {
  const before = await keys.get(cache.name);
  const after = texts.map(parseSecretKey);
  await keys.replace(cache.name, texts);
  const kept = new Set(after.map((key) => key.name));
  const retired = before.map((key) => key.name).filter((name) => !kept.has(name));
  return await resignPaths(database, cache, { keys: after, retired });
}
