// The cache as the doors see it: what is published, how to read it, how to add to it. Opens and closes its parts.
import { storePathHash } from '../nix/store-path.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import { AccessTimes } from './access-times.ts';
import { BundleUploads, type BundleOutcome, type BundleUpload } from './ingest/bundle-uploads.ts';
import { CacheRegistry, type Cache } from './cache-registry.ts';
import { changeKeys } from './change-keys.ts';
import { findKnownChunks, type ChunkScope } from './ingest/held-chunks.ts';
import { chunkKey } from './stored-chunks.ts';
import { DebugLinks } from './debug-links.ts';
import { ContentLayouts } from './content-layout.ts';
import { ContentReader, type Encoding, type OpenedContent } from './content-reader.ts';
import { parseLegacyNarName } from './legacy-nar-names.ts';
import { listPaths, type PathPage } from './list-paths.ts';
import { LookupTally } from './lookup-tally.ts';
import { findMissingPaths } from './missing-paths.ts';
import { formatBase32 } from '../nix/base32.ts';
import { parseNarName } from './nar-names.ts';
import { NarInfoLookup } from './narinfo-lookup.ts';
import type { RenderedNarInfo } from './rendered-narinfo.ts';
import { NarUploads, type NarUploadRequest } from './ingest/nar-uploads.ts';
import { PackPool } from './ingest/pack-pool.ts';
import { PathPublisher, type Publication } from './path-publisher.ts';
import { PathListings } from './path-listings.ts';
import { PathSources, type SourceParts } from './sources/path-sources.ts';
import { Promoter } from './trust/promotion.ts';
import { keepPulledFile, PulledPaths } from './sources/pulled-paths.ts';
import { Quotas } from './quotas.ts';
import { rescuePaths } from './garbage/rescue-paths.ts';
import { SideFiles, type SideFileUpload } from './side-files.ts';
import { SigningKeys } from './signing-keys.ts';
import { WriterTurns } from './writer-turns.ts';
import type { Writer } from './writer.ts';

/** Uploads that are worked on at once; more wait their turn. Each holds some 20 MiB. */
const CONCURRENT_INGESTS = 8;
const INGESTS_A_WRITER = 6;

export interface BinaryCacheOptions {
  readonly database: Database;
  readonly blobs: BlobStore;
  /** Folder of the signing keys, one file a cache. */
  readonly keysDirectory: string;
  /** For paths that caches do not hold: how to reach what the settings of a cache name. */
  readonly sources: Pick<SourceParts, 'readSecret' | 'readTree' | 'onProblem' | 'lookupMs'> & {
    /** Where NARs lie while they are fetched from an upstream. */
    readonly spoolDirectory: string;
  };
}

/** A NAR that may be served: what is stored, or what a source offers. */
export type FoundNar =
  | { readonly kind: 'stored'; readonly contentId: number; readonly encoding: Encoding }
  | { readonly kind: 'offered'; readonly nar: OpenedContent; readonly etag: string };

export function openBinaryCache(options: BinaryCacheOptions): BinaryCache {
  return new BinaryCache(options);
}

export class BinaryCache implements AsyncDisposable {
  readonly caches: CacheRegistry;
  readonly keys: SigningKeys;
  readonly contents: ContentReader;
  readonly sideFiles: SideFiles;
  readonly listings: PathListings;
  readonly debugLinks: DebugLinks;
  readonly sources: PathSources;
  readonly lookups: LookupTally;
  readonly #database: Database;
  readonly #narInfos: NarInfoLookup;
  readonly #packs: PackPool;
  readonly #quotas: Quotas;
  readonly #uploads: NarUploads;
  readonly #bundles: BundleUploads;
  readonly #publisher: PathPublisher;
  readonly #promoter: Promoter;
  readonly #access: AccessTimes;
  readonly #ingests = new WriterTurns(CONCURRENT_INGESTS, INGESTS_A_WRITER);

  constructor({ database, blobs, keysDirectory, sources }: BinaryCacheOptions) {
    const layouts = new ContentLayouts(database);
    const packs = new PackPool(blobs);
    this.#packs = packs;
    this.#database = database;
    this.keys = new SigningKeys(keysDirectory);
    this.caches = new CacheRegistry(database, this.keys);
    this.sideFiles = new SideFiles(database, blobs, packs);
    this.#narInfos = new NarInfoLookup(database);
    this.#uploads = new NarUploads(database, blobs, packs);
    const quotas = new Quotas(database);
    this.#quotas = quotas;
    this.#publisher = new PathPublisher({ database, keys: this.keys, layouts, quotas });
    this.#bundles = new BundleUploads({ database, blobs, packs, publisher: this.#publisher });
    this.#promoter = new Promoter(database, this.keys);
    this.#access = new AccessTimes(database);
    this.lookups = new LookupTally(database);
    const onDamage = (): void => this.#narInfos.forgetAll();
    this.contents = new ContentReader({ database, blobs, layouts, onDamage });
    const { contents, sideFiles } = this;
    this.listings = new PathListings({ database, contents, sideFiles });
    this.debugLinks = new DebugLinks({ database, contents, sideFiles });
    const store = new PulledPaths({
      database,
      blobs,
      packs,
      layouts,
      quotas,
      keys: this.keys,
      onPublished: (cache, info) => this.#narInfos.forget(cache.id, storePathHash(info.storePath)),
      onProblem: sources.onProblem,
    });
    this.sources = new PathSources({
      ...sources,
      keys: this.keys,
      store,
      directory: sources.spoolDirectory,
      keepFile: async (file) => await keepPulledFile(sideFiles, file),
    });
  }

  /** The signed narinfo of a path; asking for it counts as use. */
  async findNarInfo(cache: Cache, hash: string): Promise<RenderedNarInfo | undefined> {
    const found = await this.#narInfos.find(cache, hash);
    if (found?.tombstoned === true && !(await this.#rescue(cache, hash))) return undefined;
    if (found) this.#access.touch(cache.id, hash);
    return found;
  }

  /** As findNarInfo, from memory alone; `undefined` when that does not do. */
  findKnownNarInfo(cache: Cache, hash: string): RenderedNarInfo | 'absent' | undefined {
    const known = this.#narInfos.findKnown(cache, hash);
    if (known === 'absent' && cache.sourcesKey !== '') return this.sources.findKnown(cache, hash);
    if (known === undefined || known === 'absent') return known;
    if (known.tombstoned) return undefined;
    if (known.notedIn !== this.#access.round) {
      known.notedIn = this.#access.round;
      this.#access.touch(cache.id, hash);
    }
    return known;
  }

  /** `viewer` is the caller's id: it may see its own uploads that no narinfo has claimed yet. */
  async findNar(cache: Cache, fileName: string, viewer: string | undefined): Promise<FoundNar | undefined> {
    const name = parseNarName(fileName);
    if (name === undefined) return await this.#findLegacyNar(cache, fileName);
    const encoding = encodingOf(name.suffix);
    const contentId =
      (await this.#findPublished(cache, name.hash)) ?? (await this.#uploads.find(cache, fileName, viewer));
    return contentId === undefined ? undefined : { kind: 'stored', contentId, encoding };
  }

  /** The narinfo of a path that the cache does not hold, from one of its sources. */
  async findOfferedNarInfo(cache: Cache, hash: string): Promise<RenderedNarInfo | undefined> {
    return (await this.sources.find(cache, hash))?.narinfo;
  }

  /** The NAR behind such a narinfo. */
  async findOfferedNar(cache: Cache, fileName: string): Promise<FoundNar | undefined> {
    const name = parseLegacyNarName(fileName);
    if (name?.narHash === undefined) return undefined;
    const offer = await this.sources.find(cache, name.hash);
    if (offer === undefined || Buffer.compare(offer.narHash, name.narHash) !== 0) return undefined;
    return { kind: 'offered', nar: offer.nar, etag: `"${formatBase32(offer.narHash)}"` };
  }

  /** The NAR behind a link to debug information that one of the sources has given. */
  async findOfferedArchive(cache: Cache, fileName: string): Promise<FoundNar | undefined> {
    const nar = await this.sources.archives.find(cache, fileName);
    return nar && { kind: 'offered', nar, etag: `"${fileName}-${nar.length}"` };
  }

  /** Stores a NAR for a narinfo to claim; see NarUploads.put. `base`: of the overlay that it is for. */
  async putNar({ base, ...request }: NarUploadRequest & { readonly base?: Cache }): Promise<void> {
    const { cache, writer } = request;
    await this.#quotas.checkWaiting(cache, base);
    const { quotaBytes } = base ?? cache;
    const put = async (upload: NarUploadRequest): Promise<void> =>
      await this.#ingests.run(writer, async () => await this.#uploads.put(upload));
    if (quotaBytes === undefined) return await put(request);
    const maxNarSize = Math.min(request.maxNarSize, quotaBytes);
    await this.#quotas
      .whileArriving(cache, request.body, async (body) => await put({ ...request, body, maxNarSize }))
      .catch((error: unknown) => {
        throw maxNarSize === quotaBytes ? withQuota(error, cache, quotaBytes) : error;
      });
  }

  /** `too_large` when the cache has no room for so many bytes more; see Quotas. */
  async checkRoom(cache: Cache, base: Cache | undefined, size: number): Promise<void> {
    await this.#quotas.check(cache, base, size);
  }

  /** Publishes a path; see PathPublisher.publish. A path of an overlay goes on into its base when a rule says so. */
  async putNarInfo(publication: Publication): Promise<void> {
    const { cache, base, hash, writer } = publication;
    await this.#publisher.publish(publication);
    this.#narInfos.forget(cache.id, hash);
    if (base !== undefined) await this.#promote(base, cache, hash, writer);
  }

  /** Takes a bundle of NARs in chunks and publishes their paths; see BundleUploads.take. */
  async putBundle(upload: BundleUpload): Promise<BundleOutcome> {
    const { cache, base, writer } = upload;
    await this.#quotas.checkWaiting(cache, base);
    const outcome = await this.#ingests.run(writer.id, async () => await this.#bundles.take(upload));
    this.#quotas.noteWaiting(cache, outcome.waitingBytes);
    this.#quotas.noteWaste(cache, outcome.wastedBytes);
    for (const { info, failure } of outcome.paths) {
      if (failure !== undefined) continue;
      const hash = storePathHash(info.storePath);
      this.#narInfos.forget(cache.id, hash);
      if (base !== undefined) await this.#promote(base, cache, hash, writer);
    }
    return outcome;
  }

  /** For each of the chunks, whether it has to be sent. */
  async findMissingChunks(scope: ChunkScope, hashes: readonly Uint8Array[]): Promise<boolean[]> {
    const known = await findKnownChunks(this.#database, scope, hashes);
    return hashes.map((hash) => !known.has(chunkKey(hash)));
  }

  /** A page of what the cache holds; see listPaths. */
  async listPaths(cache: Cache, after: string): Promise<PathPage> {
    return await listPaths(this.#database, cache, after);
  }

  /** Which of the hashes none of the caches holds; asking counts as use of those that are held. */
  async findMissing(caches: readonly Cache[], hashes: readonly string[]): Promise<string[]> {
    return await findMissingPaths({ database: this.#database, access: this.#access }, caches, hashes);
  }

  /** Whether bytes with this SHA-256 are here, in whatever cache. Only for callers who prove that they have them. */
  async holdsContent(hash: Uint8Array): Promise<boolean> {
    const row = await this.#database.read
      .selectFrom('content')
      .select('id')
      .where('hash', '=', hash)
      .where('damaged_at', 'is', null)
      .executeTakeFirst();
    return row !== undefined;
  }

  /** Changes the signing keys and signs all that is published anew; see changeKeys. */
  async replaceKeys(name: string, texts: readonly string[]): Promise<void> {
    const cache = await this.caches.get(name);
    await changeKeys({ database: this.#database, keys: this.keys }, cache, texts);
    this.#narInfos.forgetAll();
    this.caches.forget(name);
  }

  /** Stores a file beside paths; see SideFiles.put. `base`: of the overlay that it is for. */
  async putSideFile({ base, ...upload }: SideFileUpload & { readonly base?: Cache }): Promise<void> {
    const { cache, writer } = upload;
    await this.#quotas.check(cache, base, 0);
    const put = async (body: AsyncIterable<Buffer>): Promise<number> =>
      await this.#ingests.run(writer, async () => await this.sideFiles.put({ ...upload, body }));
    this.#quotas.note(cache, await this.#quotas.whileArriving(cache, upload.body, put));
  }

  /** Writes down which paths were asked for: garbage collection counts from that. */
  async flushUses(): Promise<void> {
    await this.#access.flush();
    await this.lookups.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sources[Symbol.asyncDispose]();
    await this.#access[Symbol.asyncDispose]();
    await this.lookups[Symbol.asyncDispose]();
    await this.#packs[Symbol.asyncDispose]();
  }

  /** Whoever is told that a path is here may count on it: a path that was about to be removed stays, or is gone already. */
  async #rescue(cache: Cache, hash: string): Promise<boolean> {
    const present = await this.#database.write(
      async (transaction) => await rescuePaths(transaction, cache.id, [hash], Date.now()),
    );
    this.#narInfos.forget(cache.id, hash);
    return present.has(hash);
  }

  async #promote(base: Cache, overlay: Cache, hash: string, writer: Writer): Promise<void> {
    await this.#promoter.promote({ base, overlay, hash }, writer);
    this.#narInfos.forget(base.id, hash);
  }

  async #findLegacyNar(cache: Cache, fileName: string): Promise<FoundNar | undefined> {
    const name = parseLegacyNarName(fileName);
    if (name === undefined) return undefined;
    const row = await this.#database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['content.id', 'content.hash'])
      .where('store_path.cache_id', '=', cache.id)
      .where('store_path.hash', '=', name.hash)
      .where('store_path.quarantined_at', 'is', null)
      .where('content.damaged_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined || (name.narHash !== undefined && Buffer.compare(name.narHash, row.hash) !== 0))
      return undefined;
    this.#access.touch(cache.id, name.hash);
    return { kind: 'stored', contentId: row.id, encoding: name.encoding };
  }

  async #findPublished(cache: Cache, narHash: Uint8Array): Promise<number | undefined> {
    const rows = await this.#database.read
      .selectFrom('content')
      .innerJoin('store_path', 'store_path.content_id', 'content.id')
      .select(['content.id', 'store_path.hash'])
      .where('content.hash', '=', narHash)
      .where('content.damaged_at', 'is', null)
      .where('store_path.cache_id', '=', cache.id)
      .where('store_path.quarantined_at', 'is', null)
      .execute();
    for (const row of rows) this.#access.touch(cache.id, row.hash);
    return rows[0]?.id;
  }
}

/** A NAR that can never fit is refused while it arrives, as one that is too large. */
function withQuota(error: unknown, { name }: Cache, quotaBytes: number): unknown {
  if (!(error instanceof SlipwayError) || error.code !== 'nar_invalid') return error;
  return new SlipwayError(error.code, error.message, {
    next: `The cache ${name} may hold ${quotaBytes} bytes (slipway cache configure --quota).`,
    cause: error,
  });
}

/** What a client expects that remembers this URL: Nix goes by the compression that it uploaded with. */
function encodingOf(suffix: string): Encoding {
  if (suffix === '') return 'raw';
  return suffix === '.xz' ? 'xz' : 'zstd';
}
