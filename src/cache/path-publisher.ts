// Makes a path visible: checks a narinfo against the NAR that was uploaded, signs it, and writes it in one transaction.
// The first NAR hash of a path wins; another one is refused and recorded, never an overwrite.
import type { Transaction } from 'kysely';
import { formatHash, type Hash } from '../nix/hash.ts';
import { fingerprint, formatNarInfo, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { signText } from '../nix/signature.ts';
import { storePathBaseName, storePathHash, type StorePath } from '../nix/store-path.ts';
import type { Database } from '../storage/database.ts';
import type { Schema } from '../storage/schema.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { checkContentAddress } from './content-address.ts';
import type { ContentLayouts } from './content-layout.ts';
import { formatNarName } from './nar-names.ts';
import type { SigningKeys } from './signing-keys.ts';

const REFERENCES_A_QUERY = 500;
const MOST_FOREIGN_SIGNATURES = 32; // narinfos with more than 64 in all are refused by readers, ours included

export interface Publication {
  readonly cache: Cache;
  /** The 32 characters of the URL. */
  readonly hash: string;
  /** The narinfo as the client sent it. */
  readonly text: string;
  readonly writer: string;
}

interface UploadedNar {
  readonly contentId: number;
  readonly narHash: Hash;
  readonly narSize: number;
  readonly flatHash: Hash | undefined;
  readonly fileName: string;
  readonly fileHash: Hash;
  readonly fileSize: number;
}

export class PathPublisher {
  readonly #database: Database;
  readonly #keys: SigningKeys;
  readonly #layouts: ContentLayouts;

  constructor(database: Database, keys: SigningKeys, layouts: ContentLayouts) {
    this.#database = database;
    this.#keys = keys;
    this.#layouts = layouts;
  }

  /** Publishing the same path with the same bytes again is no error: new signatures are added, nothing else changes. */
  async publish(publication: Publication): Promise<void> {
    const { cache } = publication;
    const info = parseNarInfo(publication.text, cache.storeDir);
    if (storePathHash(info.storePath) !== publication.hash)
      throw refused(`it describes ${info.storePath}, not the path that the URL names`);
    const nar = await this.#getUpload(publication, info);
    checkAgainstNar(info, nar);
    checkContentAddress(info, cache.storeDir, { nar: nar.narHash, flat: nar.flatHash });
    if (cache.closed) await this.#checkReferences(cache, info);
    const message = fingerprint(info);
    const own = (await this.#keys.get(cache.name)).map((key) => signText(key, message));
    const narinfo = await this.#render(info, nar, own);
    const conflict = await this.#database.write(
      async (transaction) => await publishRow(transaction, { publication, info, nar, narinfo, own }),
    );
    if (conflict) throw conflict;
  }

  async #getUpload({ cache, writer }: Publication, info: NarInfo): Promise<UploadedNar> {
    const fileName = /^nar\/([^/?#]+)$/.exec(info.url)?.[1] ?? '';
    const row = await this.#database.read
      .selectFrom('nar_upload')
      .innerJoin('content', 'content.id', 'nar_upload.content_id')
      .select(['content.id', 'content.hash', 'content.size', 'content.flat_hash', 'file_hash', 'file_size'])
      .where('nar_upload.cache_id', '=', cache.id)
      .where('nar_upload.file_name', '=', fileName)
      .where('content.damaged_at', 'is', null)
      .where((where) => where.or([where('expires_at', 'is', null), where('writer', '=', writer)]))
      .executeTakeFirst();
    if (row === undefined) throw refused(`the NAR ${info.url.slice(0, 200)} was not uploaded before it`);
    return {
      contentId: row.id,
      narHash: sha256(row.hash),
      narSize: row.size,
      flatHash: row.flat_hash === null ? undefined : sha256(row.flat_hash),
      fileName,
      fileHash: sha256(row.file_hash),
      fileSize: row.file_size,
    };
  }

  async #checkReferences(cache: Cache, info: NarInfo): Promise<void> {
    const wanted = [...new Set(info.references)].filter((reference) => reference !== info.storePath);
    for (let from = 0; from < wanted.length; from += REFERENCES_A_QUERY) {
      const batch = wanted.slice(from, from + REFERENCES_A_QUERY);
      const rows = await this.#database.read
        .selectFrom('store_path')
        .select('store_path')
        .where('cache_id', '=', cache.id)
        .where('hash', 'in', batch.map(storePathHash))
        .execute();
      const held = new Set(rows.map((row) => row.store_path));
      const missing = batch.find((reference) => !held.has(reference));
      if (missing !== undefined) throw missingReference(info, missing);
    }
  }

  async #render(info: NarInfo, nar: UploadedNar, own: readonly string[]): Promise<NarInfo> {
    const layout = await this.#layouts.find(nar.contentId);
    if (layout === undefined) throw refused('its NAR was damaged meanwhile; push it again');
    const { fileHash: _, ...claimed } = info;
    return {
      ...claimed,
      url: `nar/${formatNarName(nar.narHash.bytes, '.zst')}`,
      compression: 'zstd',
      fileSize: layout.storedOffsets.at(-1) ?? 0,
      references: [...new Set(info.references)].toSorted(),
      signatures: mergeSignatures(info.signatures, own),
    };
  }
}

interface Row {
  readonly publication: Publication;
  readonly info: NarInfo;
  readonly nar: UploadedNar;
  /** As it will be served. */
  readonly narinfo: NarInfo;
  /** The cache's own signatures. */
  readonly own: readonly string[];
}

/** Returns the conflict instead of throwing it, so that its record is committed. */
async function publishRow(transaction: Transaction<Schema>, row: Row): Promise<SlipwayError | undefined> {
  const { cache, hash } = row.publication;
  const held = await transaction
    .selectFrom('store_path')
    .selectAll()
    .where('cache_id', '=', cache.id)
    .where('hash', '=', hash)
    .executeTakeFirst();
  if (held === undefined) await insertPath(transaction, row);
  else {
    const info = parseNarInfo(held.narinfo, cache.storeDir);
    if (fingerprint(info) !== fingerprint(row.info)) return await recordConflict(transaction, row, info);
    const signatures = mergeSignatures([...info.signatures, ...row.info.signatures], row.own);
    await transaction
      .updateTable('store_path')
      .set({ narinfo: formatNarInfo({ ...info, signatures }), last_access_at: Date.now() })
      .where('cache_id', '=', cache.id)
      .where('hash', '=', hash)
      .execute();
  }
  await transaction
    .updateTable('nar_upload')
    .set({ expires_at: null })
    .where('cache_id', '=', cache.id)
    .where('file_name', '=', row.nar.fileName)
    .execute();
  return undefined;
}

async function insertPath(
  transaction: Transaction<Schema>,
  { publication, nar, narinfo }: Row,
): Promise<void> {
  const now = Date.now();
  await transaction
    .insertInto('store_path')
    .values({
      cache_id: publication.cache.id,
      hash: publication.hash,
      store_path: narinfo.storePath,
      content_id: nar.contentId,
      path_references: narinfo.references.map(storePathBaseName).join(' '),
      deriver: narinfo.deriver ?? null,
      ca: narinfo.contentAddress ?? null,
      narinfo: formatNarInfo(narinfo),
      writer: publication.writer,
      created_at: now,
      last_access_at: now,
    })
    .execute();
}

async function recordConflict(
  transaction: Transaction<Schema>,
  { publication, info }: Row,
  held: NarInfo,
): Promise<SlipwayError> {
  await transaction
    .insertInto('path_conflict')
    .values({
      cache_id: publication.cache.id,
      hash: publication.hash,
      store_path: info.storePath,
      held_nar_hash: formatHash(held.narHash),
      offered_nar_hash: formatHash(info.narHash),
      writer: publication.writer,
      created_at: Date.now(),
    })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return new SlipwayError(
    'conflict',
    `The cache holds ${info.storePath} with other contents (${formatHash(held.narHash)}) than these (${formatHash(info.narHash)}).`,
    {
      next: 'The first upload of a path wins. Find out which build is right: the package is not reproducible, or somebody tampers.',
      facts: { path: info.storePath, held: formatHash(held.narHash), offered: formatHash(info.narHash) },
    },
  );
}

function checkAgainstNar(info: NarInfo, nar: UploadedNar): void {
  if (formatHash(info.narHash) !== formatHash(nar.narHash))
    throw new SlipwayError(
      'nar_hash_mismatch',
      `The narinfo says NarHash ${formatHash(info.narHash)}, but the uploaded NAR has ${formatHash(nar.narHash)}.`,
      { next: 'Check the path where it was built: nix store verify --no-trust <path>' },
    );
  if (info.narSize !== nar.narSize)
    throw refused(`it says NarSize ${info.narSize}, but the uploaded NAR has ${nar.narSize} bytes`);
  if (info.fileHash && formatHash(info.fileHash) !== formatHash(nar.fileHash))
    throw refused('its FileHash is not that of the uploaded file');
  if (info.fileSize !== undefined && info.fileSize !== nar.fileSize)
    throw refused('its FileSize is not that of the uploaded file');
}

/** What uploaders signed, each once and the first ones when there are many; then the cache's own. */
function mergeSignatures(foreign: readonly string[], own: readonly string[]): string[] {
  const kept = new Set(foreign.filter((signature) => !own.includes(signature)));
  return [...[...kept].slice(0, MOST_FOREIGN_SIGNATURES), ...own];
}

function missingReference(info: NarInfo, missing: StorePath): SlipwayError {
  return new SlipwayError(
    'narinfo_invalid',
    `${info.storePath} needs ${missing}, which is not in this cache.`,
    {
      next: 'Push the whole closure. If Nix skips it because it was there once: rm ~/.cache/nix/binary-cache-v*.sqlite',
      facts: { path: info.storePath, missing },
    },
  );
}

function sha256(bytes: Uint8Array): Hash {
  return { algo: 'sha256', bytes };
}

function refused(why: string): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The narinfo is refused: ${why}.`);
}
