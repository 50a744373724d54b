// The keys that sign what a cache publishes: files, one key a line, mode 0600, never in the database.
// A file may hold several keys during a rotation; every path is then signed with each of them.
import { chmod, mkdir, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { generateSecretKey, parseSecretKey, type SecretKey } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';

/** How long a key that was added to a file may stay unused. */
const KEYS_TTL_MS = 10_000;

export class SigningKeys {
  readonly #directory: string;
  readonly #known = new LRUCache<string, readonly SecretKey[]>({ max: 1000, ttl: KEYS_TTL_MS });

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes a key named `<cache>-1` unless the file is there already: a key must never be lost by overwriting. */
  async generate(cache: string): Promise<void> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await chmod(this.#directory, 0o700);
    try {
      await using file = await open(this.#path(cache), 'wx', 0o600);
      await file.writeFile(`${generateSecretKey(`${cache}-1`)}\n`);
      await file.sync();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      await this.get(cache);
    }
  }

  /** The keys of a cache, at least one. A file that others can read is refused. */
  async get(cache: string): Promise<readonly SecretKey[]> {
    const known = this.#known.get(cache);
    if (known) return known;
    const keys = await this.#read(this.#path(cache));
    this.#known.set(cache, keys);
    return keys;
  }

  async #read(path: string): Promise<readonly SecretKey[]> {
    const { mode } = await stat(path).catch((error: unknown) => {
      throw new SlipwayError('internal', `The signing key ${path} cannot be read.`, {
        next: 'Restore it from a backup: a new key would have to be trusted by every host.',
        cause: error,
      });
    });
    if ((mode & 0o077) !== 0)
      throw new SlipwayError('invalid', `The signing key ${path} can be read by others.`, {
        next: `chmod 600 ${path}`,
      });
    const lines = (await readFile(path, 'utf8')).split('\n').filter((line) => line.trim() !== '');
    if (lines.length === 0) throw new SlipwayError('invalid', `The signing key file ${path} is empty.`);
    return lines.map(parseSecretKey);
  }

  #path(cache: string): string {
    return join(this.#directory, `cache-${cache}.key`);
  }
}
