// The keys that sign what a cache publishes: files, one key a line, mode 0600, never in the database.
// A file may hold several keys during a rotation; every path is then signed with each of them.
import { randomBytes } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { generateSecretKey, parseSecretKey, type SecretKey } from '../nix/signature.ts';
import { SlipwayError, isCode } from '../util/errors.ts';

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
    try {
      await this.import(cache, generateSecretKey(`${cache.replaceAll('~', '.')}-1`));
    } catch (error) {
      if (!isCode(error, 'conflict')) throw error;
      await this.get(cache);
    }
  }

  /** Takes a key that was made elsewhere as the first one of a cache. `conflict` when there is a file already. */
  async import(cache: string, key: string): Promise<void> {
    parseSecretKey(key);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await chmod(this.#directory, 0o700);
    try {
      await using file = await open(this.#path(cache), 'wx', 0o600);
      await file.writeFile(`${key.trim()}\n`);
      await file.sync();
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      throw new SlipwayError('conflict', `There is a signing key for ${cache} already.`);
    }
  }

  /**
   * Replaces the keys of a cache, the first one being the one that clients are told of. Keys that leave are kept in
   * `retired.keys`. Published paths stay as they are: see resign-paths.ts.
   */
  async replace(cache: string, keys: readonly string[]): Promise<void> {
    const wanted = keys.map((key) => key.trim());
    const names = wanted.map((key) => parseSecretKey(key).name);
    if (names.length === 0) throw new SlipwayError('invalid', 'A cache needs at least one signing key.');
    if (new Set(names).size !== names.length)
      throw new SlipwayError('conflict', 'Two signing keys of a cache cannot have the same name.');
    const before = await this.#readLines(this.#path(cache));
    await this.#retire(before.filter((line) => !wanted.includes(line)));
    const path = this.#path(cache);
    const draft = `${path}.${randomBytes(4).toString('hex')}`;
    {
      await using file = await open(draft, 'wx', 0o600);
      await file.writeFile(wanted.map((line) => `${line}\n`).join(''));
      await file.sync();
    }
    await rename(draft, path);
    this.#known.delete(cache);
  }

  /** The keys as text, for `replace`. */
  async readText(cache: string): Promise<string[]> {
    return await this.#readLines(this.#path(cache));
  }

  /** Takes the file of a cache that is no more out of the way. */
  async setAside(cache: string): Promise<void> {
    const lines = await this.#readLines(this.#path(cache));
    await this.#retire(lines);
    await rename(this.#path(cache), `${this.#path(cache)}.destroyed-${Date.now()}`);
    this.#known.delete(cache);
  }

  async #retire(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    await using file = await open(join(this.#directory, 'retired.keys'), 'a', 0o600);
    await file.appendFile(lines.map((line) => `${line}\n`).join(''));
    await file.sync();
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
    return (await this.#readLines(path)).map(parseSecretKey);
  }

  async #readLines(path: string): Promise<string[]> {
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
    const text = await readFile(path, 'utf8');
    const lines = text.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]));
    if (lines.length === 0) throw new SlipwayError('invalid', `The signing key file ${path} is empty.`);
    return lines;
  }

  #path(cache: string): string {
    return join(this.#directory, `cache-${cache}.key`);
  }
}
