// Makes a path visible: checks a narinfo against the NAR that was uploaded, signs it, and writes it in one transaction.
import { formatHash, type Hash } from '../nix/hash.ts';
import { fingerprint, parseNarInfo, type NarInfo } from '../nix/narinfo.ts';
import { signText } from '../nix/signature.ts';
import { storePathHash } from '../nix/store-path.ts';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Cache } from './cache-registry.ts';
import { findMissingReference } from './closure-check.ts';
import { checkContentAddress } from './content-address.ts';
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

interface UploadedNar {
  readonly contentId: number;
  readonly narHash: Hash;
  readonly narSize: number;
  readonly flatHash: Hash | undefined;
  readonly fileName: string;
  readonly fileHash: Hash;
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
    const info = parseNarInfo(publication.text, cache.storeDir);
    if (storePathHash(info.storePath) !== publication.hash)
      throw refused(`it describes ${info.storePath}, not the path that the URL names`);
    const nar = await this.#getUpload(publication, info);
    checkAgainstNar(info, nar);
    checkContentAddress(info, cache.storeDir, { nar: nar.narHash, flat: nar.flatHash });
    const complete = cache.closed && publication.anyOrder !== true;
    if (complete) await this.#checkReferences(publication, info);
    await this.#quotas.check(cache, publication.base, nar.narSize);
    const message = fingerprint(info);
    const own = (await this.#keys.get(cache.name)).map((key) => signText(key, message));
    const rendered = await this.#render(info, nar);
    const conflict = await this.#database.write(async (transaction) => {
      const { writer } = publication;
      const write = { cache, info: rendered, contentId: nar.contentId, own, writer, way: 'push', complete };
      const failure = await writePath(transaction, write);
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
    this.#quotas.note(cache, nar.narSize);
  }

  async #checkReferences({ cache, base }: Publication, info: NarInfo): Promise<void> {
    const caches = base === undefined ? [cache] : [cache, base];
    const missing = await findMissingReference(this.#database, caches, info);
    if (missing !== undefined) throw missingReference(info, missing);
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
      fileHash: sha256(row.file_hash),
      fileSize: row.file_size,
    };
  }

  async #render(info: NarInfo, nar: UploadedNar): Promise<NarInfo> {
    const layout = await this.#layouts.find(nar.contentId);
    if (layout === undefined) throw refused('its NAR was damaged meanwhile; push it again');
    const { fileHash: _, ...claimed } = info;
    return {
      ...claimed,
      url: `nar/${formatNarName(nar.narHash.bytes, '.zst')}`,
      compression: 'zstd',
      fileSize: layout.storedOffsets.at(-1) ?? 0,
      references: [...new Set(info.references)].toSorted(),
    };
  }
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

function sha256(bytes: Uint8Array): Hash {
  return { algo: 'sha256', bytes };
}

function refused(why: string): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The narinfo is refused: ${why}.`);
}
