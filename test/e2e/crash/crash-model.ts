// What the clients of a server that is killed again and again know: which paths it has accepted, which it may have, and what
// must therefore be there. They push, read and compare; every answer that should not be is thrown.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { constants, zstdCompressSync } from 'node:zlib';
import { formatBase32 } from '../../../src/nix/base32.ts';
import { noise, testPath, type TestPath } from '../../contract/cache-uploads.ts';
import type { CrashChild } from './crash-child.ts';
import { DOORS, type Door, type DoorAnswer } from './crash-doors.ts';

/** In `main` everything stays; in `brief` only what is pinned, and what that references. */
export type CacheName = 'main' | 'brief';

interface KnownPath {
  readonly cache: CacheName;
  readonly path: TestPath;
  readonly references: readonly KnownPath[];
  /** The server said so. Otherwise the answer was lost, or was a refusal. */
  accepted: boolean;
  readonly pinned: boolean;
  /** Must be there, whole, from now on. */
  kept: boolean;
  readonly round: number;
}

const SHARED_BLOCKS = 6;
const blocks = Array.from({ length: SHARED_BLOCKS }, (_, n) => noise(140_000 + n * 20_000, `block ${n}`));

export class CrashModel {
  readonly #random: () => number;
  readonly #salt: string;
  readonly #known: KnownPath[] = [];
  readonly #contested = new Map<string, KnownPath[]>();
  #count = 0;
  #round = 0;
  accepted = 0;
  refused = 0;
  reads = 0;

  constructor(random: () => number, salt: string) {
    this.#random = random;
    this.#salt = salt;
  }

  nextRound(): void {
    this.#round++;
  }

  /** Pushes until the server is gone. */
  async pushUntilDead(child: CrashChild): Promise<void> {
    while (child.alive) await this.#push(child).catch((error: unknown) => this.#onlyWhenDead(child, error));
  }

  async readUntilDead(child: CrashChild): Promise<void> {
    while (child.alive) {
      const one = this.#pick(this.#known);
      if (one === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
      else await this.assertServed(child, one).catch((error: unknown) => this.#onlyWhenDead(child, error));
    }
  }

  /** After a restart: all of the last round, and some of what is older. */
  async assertSome(child: CrashChild, older: number): Promise<void> {
    const recent = this.#known.filter(({ round }) => round >= this.#round - 1);
    const rest = this.#known.filter(({ round }) => round < this.#round - 1);
    const some = Array.from({ length: Math.min(older, rest.length) }, () => this.#pick(rest) as KnownPath);
    await this.#assertEach(child, [...recent, ...some]);
  }

  async assertAll(child: CrashChild): Promise<void> {
    await this.#assertEach(child, this.#known);
  }

  /** What must be there is whole, what may be there is whole or absent. Nothing is ever anything else. */
  async assertServed(child: CrashChild, known: KnownPath): Promise<void> {
    const { cache, path, kept } = known;
    const client = child.client(cache);
    const answer = await client.get(`${path.hash}.narinfo`);
    const text = await answer.text();
    this.reads++;
    if (answer.status === 404)
      return assert.ok(!kept, `${cache} has lost ${path.storePath} of round ${known.round}`);
    assert.equal(answer.status, 200, text);
    const narHash = /^NarHash: sha256:(\S+)$/m.exec(text)?.[1] ?? '';
    const url = /^URL: (\S+)$/m.exec(text)?.[1] ?? '';
    const body = await client.get(url.replace(/\.zst$/, ''));
    const nar = Buffer.from(await body.arrayBuffer());
    if (body.status === 404) return assert.ok(!kept, `${cache} has lost the NAR of ${path.storePath}`);
    assert.equal(body.status, 200);
    assert.equal(
      formatBase32(createHash('sha256').update(nar).digest()),
      narHash,
      `${path.storePath} is not what its narinfo says`,
    );
    const offers = this.#contested.get(path.storePath) ?? [known];
    assert.ok(
      offers.some((offer) => offer.path.nar.equals(nar)),
      `${path.storePath} has bytes that nobody sent`,
    );
    if (offers.some(({ accepted }) => accepted))
      assert.ok(
        offers.some((offer) => offer.accepted && offer.path.nar.equals(nar)),
        `${path.storePath} was accepted with other bytes`,
      );
  }

  async #assertEach(child: CrashChild, paths: readonly KnownPath[]): Promise<void> {
    const queue = [...new Set(paths)];
    const lane = async (): Promise<void> => {
      for (let next = queue.pop(); next !== undefined; next = queue.pop())
        await this.assertServed(child, next);
    };
    await Promise.all([lane(), lane()]);
  }

  async #push(child: CrashChild): Promise<void> {
    const chance = this.#random();
    if (chance < 0.1) return await this.#pushContested(child);
    if (chance < 0.2) return await this.#pushTwice(child);
    await this.#pushOne(child, await this.#newPath());
  }

  async #newPath(): Promise<KnownPath> {
    const n = this.#count++;
    const cache = this.#random() < 0.5 ? 'main' : 'brief';
    const pinned = cache === 'brief' && this.#random() < 0.4;
    const references =
      this.#random() < 0.4 ? this.#known.filter((one) => one.cache === cache && one.accepted).slice(-2) : [];
    const path = await testPath(`crash-${this.#salt}-${n}`, this.#contents(n), pack);
    return { cache, path, references, accepted: false, pinned, kept: false, round: this.#round };
  }

  #contents(n: number): Buffer {
    const own = noise(2_000 + Math.floor(this.#random() * 60_000), `${this.#salt} ${n}`);
    const shared = this.#random() < 0.7 ? [this.#pick(blocks) ?? Buffer.alloc(0)] : [];
    return Buffer.concat([own, ...shared]);
  }

  async #pushOne(child: CrashChild, known: KnownPath): Promise<boolean> {
    // A pin that is there before the path: from the moment that the push is accepted, nothing may take it.
    if (known.pinned) await child.pin(known.path.storePath);
    this.#known.push(known);
    const references = known.references
      .map(({ path }) => path.storePath.slice('/nix/store/'.length))
      .join(' ');
    const door = this.#pick(DOORS) as Door;
    const ok = this.#note(await door(child, known.cache, known.path, references));
    if (!ok) return false;
    known.accepted = true;
    if (known.cache === 'main' || known.pinned) keep(known);
    return true;
  }

  /** A clear refusal is no loss: an upload may meet a collection that has no patience at all. */
  #note({ status, text }: DoorAnswer): boolean {
    if (status === 200) this.accepted++;
    else {
      assert.ok(status >= 400 && status < 500, `${status} ${text}`);
      this.refused++;
    }
    return status === 200;
  }

  /** Two jobs, one path, the same bytes. */
  async #pushTwice(child: CrashChild): Promise<void> {
    const known = await this.#newPath();
    await Promise.all([this.#pushOne(child, known), this.#pushOne(child, { ...known, pinned: false })]);
  }

  /** Two jobs, one path, other bytes: at most one of them is accepted. */
  async #pushContested(child: CrashChild): Promise<void> {
    const one = { ...(await this.#newPath()), cache: 'main' as const, references: [], pinned: false };
    const other = await testPath('other', noise(30_000, `${this.#salt} other ${this.#count}`), pack);
    const { storePath, hash } = one.path;
    const two = { ...one, path: { ...other, storePath, hash } };
    this.#contested.set(storePath, [one, two]);
    const accepted = await Promise.all([this.#pushOne(child, one), this.#pushOne(child, two)]);
    assert.ok(!(accepted[0] && accepted[1]), `${storePath} was accepted with two different contents`);
  }

  #pick<T>(list: readonly T[]): T | undefined {
    return list[Math.floor(this.#random() * list.length)];
  }

  /** A connection that breaks is no failure once the server is dead. */
  async #onlyWhenDead(child: CrashChild, error: unknown): Promise<void> {
    if (error instanceof assert.AssertionError) throw error;
    for (let waited = 0; child.alive && waited < 2_000; waited += 10)
      await new Promise((resolve) => setTimeout(resolve, 10));
    if (child.alive) throw error;
  }
}

function keep(known: KnownPath): void {
  known.kept = true;
  for (const reference of known.references) if (!reference.kept) keep(reference);
}

function pack(nar: Buffer): Buffer {
  return zstdCompressSync(nar, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
}
