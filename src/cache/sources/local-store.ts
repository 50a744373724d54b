// This machine's own Nix store as a source of paths: what nix-serve does. The store's database says what is there, NARs
// are made from the files while they go out, and each is checked against the hash that the database has: a file that was
// changed after it was built is never served as a whole.
import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import type { LocalStoreConfig } from '../../api/source-config.ts';
import { fingerprint } from '../../nix/narinfo.ts';
import { writeNar, type NarNode } from '../../nix/nar-writer.ts';
import { signText, type SecretKey } from '../../nix/signature.ts';
import { begun } from '../../util/begun.ts';
import { Semaphore } from '../../util/concurrency.ts';
import { SlipwayError, isCode } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import type { ByteRange, OpenedContent } from '../content-reader.ts';
import { NixDatabase, type ValidPath } from './nix-database.ts';
import { renderOffer, type PathOffer, type PathSource } from './path-source.ts';
import { HELD_BACK_BYTES } from './spool.ts';

/** Reads what lies at a path, for the NAR writer. */
export type ReadTree = (path: string) => Promise<NarNode>;

export interface LocalStoreParts {
  readonly config: LocalStoreConfig;
  readonly cache: Pick<Cache, 'name' | 'storeDir'>;
  readonly readTree: ReadTree;
  readonly findKeys: () => Promise<readonly SecretKey[]>;
  readonly onProblem: (error: unknown) => void;
}

export class LocalStore implements PathSource, Disposable {
  readonly #parts: LocalStoreParts;
  #database: { readonly opened: NixDatabase; readonly mark: string } | undefined;

  constructor(parts: LocalStoreParts) {
    this.#parts = parts;
  }

  async find(hash: string): Promise<PathOffer | undefined> {
    const { cache, config, findKeys } = this.#parts;
    const info = this.#open().find(cache.storeDir, hash);
    if (info === undefined || info.narHash.algo !== 'sha256') return undefined;
    const message = fingerprint(info);
    const own = config.sign ? (await findKeys()).map((key) => signText(key, message)) : [];
    const signatures = [...info.signatures.filter((one) => !own.includes(one)), ...own];
    return {
      narinfo: renderOffer({ ...info, url: '', compression: 'none' }, signatures),
      narHash: info.narHash.bytes,
      nar: this.#nar(info),
    };
  }

  [Symbol.dispose](): void {
    this.#database?.opened[Symbol.dispose]();
  }

  /** Another file at the same place (a restored backup, a moved store) is another database. */
  #open(): NixDatabase {
    const file = join(this.#parts.config.root, 'nix/var/nix/db/db.sqlite');
    const facts = statSync(file, { throwIfNoEntry: false });
    const place = `${facts?.dev} ${facts?.ino}`;
    const state = `${place} ${facts?.mtimeMs} ${facts?.size}`;
    const known = this.#database;
    if (known?.mark === (known?.opened.isSnapshot === true ? state : place)) return known.opened;
    known?.opened[Symbol.dispose]();
    this.#database = undefined;
    const opened = new NixDatabase(file);
    this.#database = { opened, mark: opened.isSnapshot ? state : place };
    return opened;
  }

  #nar(info: ValidPath): OpenedContent {
    return {
      length: info.narSize,
      start: async (range) => {
        try {
          return await begun(this.#read(info, range));
        } catch (error) {
          if (!isCode(error, 'not_found')) this.#parts.onProblem(error);
          return undefined;
        }
      },
    };
  }

  /** The range of the NAR; its end comes only once all of it has the right hash. */
  async *#read(info: ValidPath, { start, end }: ByteRange): AsyncIterable<Buffer> {
    const root = await this.#parts.readTree(join(this.#parts.config.root, info.storePath)).catch(asGone);
    const hash = createHash('sha256');
    const tailAt = Math.max(start, end - HELD_BACK_BYTES);
    using tail = new HeldTail(end - tailAt);
    let at = 0;
    for await (const piece of writeNar(root)) {
      hash.update(piece);
      if (at + piece.length > info.narSize) throw changed(info);
      const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.length);
      const part = (from: number, to: number): Buffer =>
        bytes.subarray(Math.max(0, from - at), Math.max(0, to - at));
      const free = part(start, tailAt);
      if (free.length > 0) yield free;
      await tail.add(part(tailAt, end));
      at += piece.length;
    }
    if (at !== info.narSize || !hash.digest().equals(info.narHash.bytes)) throw changed(info);
    yield* tail.pieces();
  }
}

const TAILS_AT_ONCE = 16;
const TAIL_PIECE_BYTES = 256 * 1024;

/** What is held back until the hash is known: nobody's client is waited for meanwhile, so few at once are enough. */
class HeldTail implements Disposable {
  static readonly #turns = new Semaphore(TAILS_AT_ONCE);
  readonly #size: number;
  #turn: Disposable | undefined;
  #bytes: Buffer = Buffer.alloc(0);
  #filled = 0;

  constructor(size: number) {
    this.#size = size;
  }

  async add(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    if (this.#turn === undefined) {
      this.#turn = await HeldTail.#turns.acquire();
      this.#bytes = Buffer.allocUnsafeSlow(this.#size);
    }
    this.#filled += bytes.copy(this.#bytes, this.#filled);
  }

  /** From now on, who waits for his client answers for its memory. */
  *pieces(): Iterable<Buffer> {
    this[Symbol.dispose]();
    for (let at = 0; at < this.#filled; at += TAIL_PIECE_BYTES)
      yield this.#bytes.subarray(at, Math.min(this.#filled, at + TAIL_PIECE_BYTES));
  }

  [Symbol.dispose](): void {
    this.#turn?.[Symbol.dispose]();
    this.#turn = undefined;
  }
}

function changed({ storePath }: ValidPath): SlipwayError {
  return new SlipwayError('nar_hash_mismatch', `${storePath} was changed on disk after it was built.`, {
    next: `It is not served. Repair it: nix-store --repair-path ${storePath}`,
  });
}

/** Nix collected it a moment ago: absent, and no problem of anybody. */
function asGone(error: unknown): never {
  const gone = error instanceof Error && 'code' in error && error.code === 'ENOENT';
  throw gone ? new SlipwayError('not_found', 'The path is gone from the store.', { cause: error }) : error;
}
