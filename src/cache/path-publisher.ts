// Makes a path visible: checks a narinfo against the NAR that was uploaded, signs it, and writes it in one transaction.
import { formatHash, type Hash } from '../nix/hash.ts';
import { fingerprint, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { signText } from '../nix/signature.ts';
import { storePathHash } from '../nix/store-path.ts';
import type { Transaction } from 'kysely';
import type { Database } from '../storage/database.ts';
import type { Schema } from '../storage/schema.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { findMissingReference } from './trust/closure-check.ts';
import { checkContentAddress } from './trust/content-address.ts';
import type { ContentLayouts } from './content-layout.ts';
import { formatNarName } from './nar-names.ts';
import { missingReference, writePath } from './path-rows.ts';
import type { Quotas } from './quotas.ts';
import type { SigningKeys } from './signing-keys.ts';
import type { Writer } from './writer.ts';

export interface Publication {
  readonly cache: Cache;
  /** Of an overlay: the cache that it lies over. */
  readonly base?: Cache;
  /** The 32 characters of the URL. */
  readonly hash: string;
  /** The narinfo as the client sent it. */
  readonly text: string;
  readonly writer: Writer;
  /** The client sends paths in no order: whether the closure is complete cannot be asked yet. */
  readonly anyOrder?: boolean;
}

/** What is known of the NAR that a narinfo describes. */
export interface NarFacts {
  readonly narHash: Hash;
  readonly narSize: number;
  readonly flatHash: Hash | undefined;
  /** Of the file that was uploaded, when the NAR came as one. */
  readonly file?: { readonly hash: Hash; readonly size: number };
}

interface UploadedNar extends NarFacts {
  readonly contentId: number;
  readonly fileName: string;
}

/** A path that nothing speaks against so far; what only the database can tell comes with the write. */
export interface AdmittedPath {
  readonly publication: Publication;
  readonly info: NarInfo;
  /** The cache's own signatures. */
  readonly own: readonly string[];
}

/** Where the NAR of an admitted path is stored. */
export interface StoredNar {
  readonly contentId: number;
  /** Length of its zstd stream. */
  readonly fileSize: number;
}

export interface PathPublisherParts {
  readonly database: Database;
  readonly keys: SigningKeys;
  readonly layouts: ContentLayouts;
  readonly quotas: Quotas;
}

export class PathPublisher {
  readonly #database: Database;
  readonly #keys: SigningKeys;
  readonly #layouts: ContentLayouts;
  readonly #quotas: Quotas;

  constructor(parts: PathPublisherParts) {
    this.#database = parts.database;
    this.#keys = parts.keys;
    this.#layouts = parts.layouts;
    this.#quotas = parts.quotas;
  }

  /** Publishing the same path with the same bytes again is no error: new signatures are added, nothing else changes. */
  async publish(publication: Publication): Promise<void> {
    const { cache } = publication;
    const info = parsePublication(publication);
    const nar = await this.#getUpload(publication, info);
    const admitted = await this.admit(publication, info, nar);
    const fileSize = await this.#storedLength(nar.contentId);
    const conflict = await this.#database.write(async (transaction) => {
      const failure = await this.write(transaction, admitted, { contentId: nar.contentId, fileSize });
      if (failure === undefined)
        await transaction
          .updateTable('nar_upload')
          .set({ expires_at: null })
          .where('cache_id', '=', cache.id)
          .where('file_name', '=', nar.fileName)
          .execute();
      return failure;
    });
    if (conflict) throw conflict;
    this.note(admitted);
  }

  /** Checks the narinfo against the NAR, and the quota; signs. Nothing is written. */
  async admit(publication: Publication, info: NarInfo, nar: NarFacts): Promise<AdmittedPath> {
    const { cache, base } = publication;
    checkAgainstNar(info, nar);
    checkContentAddress(info, cache.storeDir, { nar: nar.narHash, flat: nar.flatHash });
    await this.#quotas.check(cache, base, nar.narSize);
    const message = fingerprint(info);
    const own = (await this.#keys.get(cache.name)).map((key) => signText(key, message));
    return { publication, info, own };
  }

  /** Returns a conflict instead of throwing it, so that its record is committed; throws when a reference is missing. */
  async write(
    transaction: Transaction<Schema>,
    { publication, info, own }: AdmittedPath,
    nar: StoredNar,
  ): Promise<SlipwayError | undefined> {
    const { cache, base, writer } = publication;
    const complete = cache.closed && publication.anyOrder !== true;
    if (complete) {
      const missing = await findMissingReference(
        transaction,
        base === undefined ? [cache] : [cache, base],
        info,
      );
      if (missing !== undefined) throw missingReference(info, missing);
    }
    const rendered = render(info, nar.fileSize);
    const write = { cache, info: rendered, contentId: nar.contentId, own, writer, way: 'push', complete };
    return await writePath(transaction, write);
  }

  /** To be called for what was written, once that is committed. */
  note({ publication, info }: AdmittedPath): void {
    this.#quotas.note(publication.cache, info.narSize);
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
      .where((where) => where.or([where('expires_at', 'is', null), where('writer', '=', writer.id)]))
      .executeTakeFirst();
    if (row === undefined) throw refused(`the NAR ${info.url.slice(0, 200)} was not uploaded before it`);
    return {
      contentId: row.id,
      narHash: sha256(row.hash),
      narSize: row.size,
      flatHash: row.flat_hash === null ? undefined : sha256(row.flat_hash),
      fileName,
      file: { hash: sha256(row.file_hash), size: row.file_size },
    };
  }

  async #storedLength(contentId: number): Promise<number> {
    const layout = await this.#layouts.find(contentId);
    if (layout === undefined) throw refused('its NAR was damaged meanwhile; push it again');
    return layout.storedOffsets.at(-1) ?? 0;
  }
}

function parsePublication({ text, cache, hash }: Publication): NarInfo {
  const info = parseNarInfo(text, cache.storeDir);
  if (storePathHash(info.storePath) === hash) return info;
  throw refused(`it describes ${info.storePath}, not the path that the URL names`);
}

/** As it will be served, but for its signatures. */
function render(info: NarInfo, fileSize: number): NarInfo {
  const { fileHash: _, ...claimed } = info;
  return {
    ...claimed,
    url: `nar/${formatNarName(info.narHash.bytes, '.zst')}`,
    compression: 'zstd',
    fileSize,
    references: [...new Set(info.references)].toSorted(),
  };
}

function checkAgainstNar(info: NarInfo, nar: NarFacts): void {
  if (formatHash(info.narHash) !== formatHash(nar.narHash))
    throw new SlipwayError(
      'nar_hash_mismatch',
      `The narinfo says NarHash ${formatHash(info.narHash)}, but the uploaded NAR has ${formatHash(nar.narHash)}.`,
      { next: 'Check the path where it was built: nix store verify --no-trust <path>' },
    );
  if (info.narSize !== nar.narSize)
    throw refused(`it says NarSize ${info.narSize}, but the uploaded NAR has ${nar.narSize} bytes`);
  const { file } = nar;
  if (file === undefined) return;
  if (info.fileHash && formatHash(info.fileHash) !== formatHash(file.hash))
    throw refused('its FileHash is not that of the uploaded file');
  if (info.fileSize !== undefined && info.fileSize !== file.size)
    throw refused('its FileSize is not that of the uploaded file');
}

function sha256(bytes: Uint8Array): Hash {
  return { algo: 'sha256', bytes };
}

function refused(why: string): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The narinfo is refused: ${why}.`);
}
