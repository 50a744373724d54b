// Reads the database of a Nix store: which paths are valid, and what is known of them. Read only, beside a running Nix.
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import { parseHash } from '../../nix/hash.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { parseStorePath, storePathBaseName } from '../../nix/store-path.ts';
import { messageOf, SlipwayError } from '../../util/errors.ts';

/** What the store says of a path; where its NAR is to be had is for others to say. */
export type ValidPath = Omit<NarInfo, 'url' | 'compression' | 'fileHash' | 'fileSize'>;

interface PathRow {
  readonly id: number;
  readonly path: string;
  readonly hash: string;
  readonly deriver: string | null;
  readonly narSize: number | null;
  readonly sigs: string | null;
  readonly ca: string | null;
}

/** Nix holds its lock for moments; a lookup does not hold up the server for longer. */
const BUSY_MS = 200;

export class NixDatabase implements Disposable {
  /** Whether later changes of the file stay unseen until it is opened again. */
  readonly isSnapshot: boolean;
  readonly #db: DatabaseSync;
  readonly #findPath: StatementSync;
  readonly #findReferences: StatementSync;

  constructor(file: string) {
    const { db, isSnapshot } = open(file);
    this.#db = db;
    this.isSnapshot = isSnapshot;
    // As nix itself finds a path by the hash part of its name (libstore/local-store.cc, QueryPathFromHashPart).
    this.#findPath = this.#db.prepare(
      'select id, path, hash, deriver, narSize, sigs, ca from ValidPaths where path >= ? order by path limit 1',
    );
    this.#findReferences = this.#db.prepare(
      'select path from Refs join ValidPaths on reference = id where referrer = ? order by path',
    );
  }

  /** `undefined` when no valid path has this hash part. */
  find(storeDir: string, hash: string): ValidPath | undefined {
    const prefix = `${storeDir}/${hash}`;
    const row = this.#findPath.get(prefix) as unknown as PathRow | undefined;
    if (row?.path.startsWith(`${prefix}-`) !== true) return undefined;
    const { narSize } = row;
    if (narSize === null || narSize === 0) return undefined; // stores of the earliest Nix did not record it
    const references = this.#findReferences.all(row.id) as unknown as readonly { readonly path: string }[];
    return {
      storePath: parseStorePath(row.path, storeDir),
      narHash: parseHash(row.hash),
      narSize,
      references: references.map(({ path }) => parseStorePath(path, storeDir)),
      ...(row.deriver && { deriver: storePathBaseName(parseStorePath(row.deriver, storeDir)) }),
      signatures: (row.sigs ?? '').split(' ').filter((word) => word !== ''),
      ...(row.ca && { contentAddress: row.ca }),
    };
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

function open(file: string): { readonly db: DatabaseSync; readonly isSnapshot: boolean } {
  if (!existsSync(file))
    throw new SlipwayError('not_found', `There is no Nix database at ${file}.`, {
      next: 'Name the root of the store: slipway cache configure <cache> --local-store /',
    });
  try {
    return { db: openAndRead(file), isSnapshot: false };
  } catch (error) {
    // In a folder where this user may make no files, SQLite needs its shared-memory file, which is gone while nix rests.
    if (existsSync(`${file}-wal`)) throw unreadable(file, error);
  }
  try {
    return { db: openAndRead(`${pathToFileURL(file).href}?immutable=1`), isSnapshot: true };
  } catch (error) {
    throw unreadable(file, error);
  }
}

function openAndRead(file: string): DatabaseSync {
  const db = new DatabaseSync(file, { readOnly: true, timeout: BUSY_MS });
  try {
    db.prepare('select id from ValidPaths limit 1').get();
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function unreadable(file: string, error: unknown): SlipwayError {
  return new SlipwayError('unavailable', `The Nix database ${file} cannot be read: ${messageOf(error)}`, {
    next: "Nix's database must be readable for the user that the server runs as.",
    cause: error,
  });
}
