// A database as a million published paths leave it, for bench/scale.ts: real tables, triggers, recipes and narinfos. Made
// up are the bytes of chunks (no pack exists), signatures (of the right length) and how much is shared: each path uses
// 1 to 800 chunks, 25 in the mean, and a quarter of these are new with it.
import { hash as digest } from 'node:crypto';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { formatRecipe } from '../src/content/recipe.ts';
import { formatBase32 } from '../src/nix/base32.ts';
import { formatNarInfo } from '../src/nix/narinfo.ts';
import { parseStorePath, storePathBaseName, type StorePath } from '../src/nix/store-path.ts';

const CHUNK_BYTES = 64 * 1024;
const CHUNKS_A_FRAME = 8;
const FRAME_BYTES = 200_000;
const CHUNKS_A_PACK = 2400;
/** Paths of a release: they reference each other, and hosts use all of them for as long as they run that release. */
const RELEASE_PATHS = 2000;
const SIGNATURE = `main:${'A'.repeat(86)}==`;
const DAY = 86_400_000;
/** Paths were published, and last used, over so long. */
const AGE_DAYS = 90;

/** Hash part of the `n`th path; those of `absent` are of no path. */
export function hashOf(n: number, absent = false): string {
  return formatBase32(madeUp(n, absent ? 1 : 2).subarray(0, 20));
}

export interface Filled {
  readonly paths: number;
  readonly chunks: number;
  readonly packs: number;
  readonly recipeEntries: number;
}

/** Fills the database that a server has made at `file`, its cache `main` included. No server may have it open. */
export function fillDatabase(file: string, paths: number): Filled {
  using closing = new DisposableStack();
  const db = new DatabaseSync(file);
  closing.defer(() => db.close());
  db.exec('pragma synchronous = off; pragma cache_size = -1000000; pragma foreign_keys = off');
  const triggers = db.prepare("select name, sql from sqlite_master where type = 'trigger'").all();
  // What triggers would note was written to the journal long ago.
  for (const { name } of triggers) db.exec(`drop trigger ${String(name)}`);
  const { id } = db.prepare("select id from cache where name = 'main'").get() ?? {};
  const filler = new Filler(db, Number(id));
  for (let n = 0; n < paths; n++) {
    if (n % 10_000 === 0) db.exec(n === 0 ? 'begin' : 'commit; begin');
    filler.add(n);
  }
  filler.end();
  db.exec('commit');
  for (const { sql } of triggers) db.exec(String(sql));
  db.exec('pragma optimize; pragma wal_checkpoint(truncate)');
  return { paths, chunks: filler.chunks, packs: filler.packs, recipeEntries: filler.recipeEntries };
}

class Filler {
  chunks = 0;
  packs = 0;
  recipeEntries = 0;
  readonly #cacheId: number;
  readonly #now = Date.now();
  readonly #random = new Random(7);
  readonly #insert: Record<'pack' | 'chunk' | 'content' | 'path' | 'origin', StatementSync>;

  constructor(db: DatabaseSync, cacheId: number) {
    this.#cacheId = cacheId;
    const insert = (table: string, columns: string): StatementSync =>
      db.prepare(
        `insert into ${table} (${columns}) values (${columns
          .split(',')
          .map(() => '?')
          .join()})`,
      );
    this.#insert = {
      pack: insert('pack', 'id, blob_key, size, created_at, unsettled_bytes'),
      chunk: insert(
        'chunk',
        'hash, pack_id, frame_offset, frame_length, frame_crc, frame_raw_length, chunk_offset, raw_length',
      ),
      content: insert('content', 'id, hash, size, recipe, created_at'),
      path: insert(
        'store_path',
        'cache_id, hash, store_path, content_id, path_references, deriver, narinfo, writer, created_at, last_access_at',
      ),
      origin: insert(
        'path_origin',
        'cache_id, hash, store_path, nar_hash, writer, writer_name, token, way, address, signatures, created_at',
      ),
    };
  }

  add(n: number): void {
    const hash = madeUp(n, 3);
    const chunks = Array.from({ length: this.#chunkCount() }, () => ({
      hash: this.#chunk(),
      rawLength: CHUNK_BYTES,
    }));
    this.recipeEntries += chunks.length;
    const size = chunks.length * CHUNK_BYTES;
    // The age falls with the number; a path was last used between then and now.
    const createdAt = Math.round(this.#now - AGE_DAYS * DAY * (1 - n / 1_000_000) - DAY);
    this.#insert.content.run(n + 1, hash, size, formatRecipe({ hash, size, chunks }), createdAt);
    this.#publish(n, { hash, size, createdAt });
  }

  /** The pack that is open gets its row too. */
  end(): void {
    if (this.chunks % CHUNKS_A_PACK !== 0) this.#namePack();
  }

  #publish(
    n: number,
    { hash, size, createdAt }: { readonly hash: Buffer; readonly size: number; readonly createdAt: number },
  ): void {
    const storePath = pathOf(n);
    const references = referencesOf(n);
    const deriver = `${hashOf(n, true)}-package-${n % 5000}-1.${n % 20}.${n % 9}.drv`;
    const url = `nar/${formatBase32(hash)}.nar.zst`;
    const narHash = { algo: 'sha256', bytes: hash } as const;
    const narinfo = formatNarInfo({
      storePath,
      url,
      compression: 'zstd',
      fileSize: Math.round(size * 0.4),
      narHash,
      narSize: size,
      references,
      deriver,
      signatures: [SIGNATURE],
    });
    const usedAt = usedOf(n, createdAt, this.#now);
    const names = references.map(storePathBaseName).join(' ');
    this.#insert.path.run(
      this.#cacheId,
      hashOf(n),
      storePath,
      n + 1,
      names,
      deriver,
      narinfo,
      'ci',
      createdAt,
      usedAt,
    );
    this.#insert.origin.run(
      this.#cacheId,
      hashOf(n),
      storePath,
      `sha256:${formatBase32(hash)}`,
      'ci',
      'ci',
      'abcdefghij',
      'push',
      '10.0.0.1',
      '',
      createdAt,
    );
  }

  #chunkCount(): number {
    const kind = this.#random.next();
    if (kind < 0.6) return 1;
    if (kind < 0.85) return 3 + this.#random.below(6);
    if (kind < 0.95) return 16 + this.#random.below(50);
    if (kind < 0.99) return 128 + this.#random.below(273);
    return 800;
  }

  #chunk(): Buffer {
    if (this.chunks > 0 && this.#random.next() < 0.75) return chunkHash(this.#random.below(this.chunks));
    const n = this.chunks++;
    if (n % CHUNKS_A_PACK === 0 && n > 0) this.#namePack();
    const hash = chunkHash(n);
    this.#insert.chunk.run(
      hash,
      this.packs + 1,
      Math.floor((n % CHUNKS_A_PACK) / CHUNKS_A_FRAME) * FRAME_BYTES,
      FRAME_BYTES,
      Math.floor(n / CHUNKS_A_FRAME),
      CHUNKS_A_FRAME * CHUNK_BYTES,
      (n % CHUNKS_A_FRAME) * CHUNK_BYTES,
      CHUNK_BYTES,
    );
    return hash;
  }

  #namePack(): void {
    const name = digest('md5', String(this.packs));
    this.packs++;
    const size = (CHUNKS_A_PACK / CHUNKS_A_FRAME) * FRAME_BYTES + CHUNKS_A_PACK * 56;
    // A cache of this size has settled long ago.
    this.#insert.pack.run(this.packs, `pack/${name.slice(0, 2)}/${name}`, size, this.#now - DAY, 0);
  }
}

const named = new Map<number, StorePath>();

function pathOf(n: number): StorePath {
  const known = named.get(n);
  if (known !== undefined) return known;
  const made = parseStorePath(`/nix/store/${hashOf(n)}-package-${n % 5000}-1.${n % 20}.${n % 9}`);
  named.set(n, made);
  named.delete(n - 2 * RELEASE_PATHS);
  return made;
}

function chunkHash(n: number): Buffer {
  return madeUp(n, 4);
}

/** 32 bytes that look like a digest of `n`, in a tenth of the time. `kind` tells families of them apart. */
function madeUp(n: number, kind: number): Buffer {
  const bytes = Buffer.allocUnsafe(32);
  for (let word = 0; word < 8; word++) {
    let mixed = Math.imul(n + 1, 0x9e3779b1) ^ Math.imul(kind * 8 + word + 1, 0x85ebca77);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    bytes.writeInt32LE((mixed ^ (mixed >>> 16)) | 0, word * 4);
  }
  return bytes;
}

/** Up to 13, 6.5 in the mean, most of them to what the whole release needs. */
function referencesOf(n: number): StorePath[] {
  const random = new Random(n + 1);
  const place = n % RELEASE_PATHS;
  const targets = new Set<number>();
  for (let left = place === 0 ? 0 : random.below(14); left > 0; left--)
    targets.add(n - place + Math.floor(place * random.next() ** 2));
  return [...targets].map(pathOf).toSorted();
}

/** Most releases run for a while after they were made, few until today. */
function usedOf(n: number, createdAt: number, now: number): number {
  const random = new Random(Math.floor(n / RELEASE_PATHS) + 1);
  random.next();
  return Math.round(createdAt + (now - createdAt) * random.next() ** 3);
}

/** Reproducible numbers (xorshift32). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 (included) to 1 (excluded). */
  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) / 2 ** 32;
  }

  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
}
