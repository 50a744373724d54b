// Uploads by Slipway's own protocol: a bundle of NARs in chunks, and the paths that they are for. Nothing of a bundle is
// visible before its frames are durable, its NARs restored and proven; then it is committed as a whole, in one transaction.
import type { Transaction } from 'kysely';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { MOST_PATHS_A_BUNDLE, readRecords } from '../../content/bundle-format.ts';
import { encodeFrame } from '../../content/frame-codec.ts';
import { FRAME_KIND } from '../../content/pack-format.ts';
import type { Hash } from '../../nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { storePathHash } from '../../nix/store-path.ts';
import { asSlipwayError, SlipwayError } from '../../util/errors.ts';
import { BundleIntake, type ArrivingNar } from './bundle-intake.ts';
import { BundleOrder, type BundlePlace } from './bundle-order.ts';
import type { Cache } from '../cache-registry.ts';
import { ChunkMemory } from './chunk-memory.ts';
import { claimChunks } from './claim-chunks.ts';
import { commitContents, commitPacks } from './commit-content.ts';
import { findHeldContent, isHeld, type HeldContent } from './held-contents.ts';
import { noteChunks, stageChunks, type ChunkScope } from './held-chunks.ts';
import type { RestoredNar } from './nar-restorer.ts';
import type { PackPool } from './pack-pool.ts';
import type { PackSink, SealedPack } from './pack-writer.ts';
import type { AdmittedPath, NarFacts, PathPublisher } from '../path-publisher.ts';
import { storedLength } from './stored-length.ts';
import { UploadSessions } from './upload-sessions.ts';
import type { Writer } from '../writer.ts';

export interface BundleUpload {
  readonly cache: Cache;
  /** Of an overlay: the cache that it lies over. */
  readonly base?: Cache;
  /** Caches whose chunks the writer may know of. */
  readonly readable: readonly Cache[];
  readonly writer: Writer;
  readonly body: AsyncIterable<Buffer>;
  /** The push that it is part of, as its client calls it: the bundles of one may overlap. */
  readonly push?: string | undefined;
  readonly maxNarSize: number;
}

export interface BundleOutcome {
  readonly paths: readonly PathOutcome[];
  /** NARs whose earlier chunks have to be named again. */
  readonly lost: readonly Buffer[];
  /** Bytes of new chunks that wait for a path. */
  readonly waitingBytes: number;
  /** Bytes that it has left on the disk for nobody, until they are collected. */
  readonly wastedBytes: number;
}

export interface PathOutcome {
  readonly info: NarInfo;
  readonly failure?: SlipwayError;
}

export interface BundleUploadsParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly packs: PackPool;
  readonly publisher: PathPublisher;
}

/** A path on its way, and what it is made of. */
interface ArrivingPath {
  readonly info: NarInfo;
  readonly text: string;
  nar?: RestoredNar | HeldContent | undefined;
  admitted?: AdmittedPath;
  failure?: SlipwayError;
}

export class BundleUploads {
  readonly #parts: BundleUploadsParts;
  readonly #sessions = new UploadSessions();
  readonly #order = new BundleOrder();

  constructor(parts: BundleUploadsParts) {
    this.#parts = parts;
  }

  /** Refuses the bundle as a whole for what no client of ours sends; what is wrong with one path is told of that path. */
  async take(upload: BundleUpload): Promise<BundleOutcome> {
    const scope = scopeOf(upload);
    using place = this.#order.join(upload.push && `${upload.cache.id}/${upload.writer.id}/${upload.push}`);
    await using sink = this.#parts.packs.open();
    const { database, blobs } = this.#parts;
    const { maxNarSize } = upload;
    const parts = { database, blobs, sessions: this.#sessions, scope, place, maxNarSize };
    await using intake = new BundleIntake(parts);
    const frames = new ChunkMemory();
    const paths = await readBundle(upload, intake, frames);
    for (const { restorer, restored, failure } of intake.nars)
      if (restorer !== undefined && restored === undefined && failure === undefined)
        this.#sessions.keep(scope, { restorer, bundle: place });
    place.taken();
    await intake.store(sink); // beside the commit of the bundle before
    await place.beforeEnded();
    checkCountedOn(intake.countedOn);
    await this.#admit(upload, scope, paths, intake.nars);
    const bundle = { nars: intake.nars, paths, packs: await sealed(sink, intake) };
    const committed = await this.#parts.database.write(
      async (transaction) => await this.#commit(transaction, scope, bundle),
    );
    place.committed();
    for (const { admitted, failure } of paths)
      if (admitted !== undefined && failure === undefined) this.#parts.publisher.note(admitted);
    frames.release(); // not after a failure: something may still be reading them
    return {
      paths: paths.map(({ info, failure }) => ({ info, ...(failure && { failure }) })),
      lost: intake.nars.filter(({ restorer }) => restorer === undefined).map(({ hash }) => hash),
      waitingBytes: committed.waitingBytes,
      wastedBytes: committed.wastedBytes + intake.deadBytes,
    };
  }

  /** Finds the NAR of each path and checks all that needs no transaction. */
  async #admit(
    upload: BundleUpload,
    scope: ChunkScope,
    paths: readonly ArrivingPath[],
    nars: readonly ArrivingNar[],
  ): Promise<void> {
    const arrived = new Map(nars.map((nar) => [nar.hash.toString('latin1'), nar]));
    for (const path of paths) {
      const { info, text } = path;
      const arriving = arrived.get(Buffer.from(info.narHash.bytes).toString('latin1'));
      try {
        if (arriving?.failure !== undefined) throw arriving.failure;
        path.nar =
          arriving?.restored ?? (await findHeldContent(this.#parts.database, scope, info.narHash.bytes));
        if (path.nar === undefined) throw incomplete(info);
        const { cache, base, writer } = upload;
        const hash = storePathHash(info.storePath);
        const publication = { cache, ...(base && { base }), hash, text, writer };
        path.admitted = await this.#parts.publisher.admit(publication, info, factsOf(path.nar));
      } catch (error) {
        path.failure = clientFault(error);
      }
    }
  }

  /** Returns how many bytes more wait for a path now, and what recipes that no path needs take. */
  async #commit(
    transaction: Transaction<Schema>,
    scope: ChunkScope,
    { nars, paths, packs }: WholeBundle,
  ): Promise<Pick<BundleOutcome, 'waitingBytes' | 'wastedBytes'>> {
    const now = Date.now();
    await commitPacks(transaction, packs, now);
    const whole = nars.flatMap(({ restored }) => restored ?? []);
    const contentIds = await commitContents(transaction, whole, now);
    for (const path of paths) await this.#publish(transaction, path, contentIds);
    const published = new Set(paths.filter(({ failure }) => failure === undefined).map(({ nar }) => nar));
    const isPublished = ({ restored }: ArrivingNar): boolean =>
      restored !== undefined && published.has(restored);
    const others = nars.filter((nar) => !isPublished(nar));
    const staged = others.flatMap(({ sent }) => [...sent.values()]);
    const named = nars.flatMap((nar) => (isPublished(nar) ? (nar.restored?.chunks ?? []) : []));
    await claimChunks(transaction, staged);
    await stageChunks(transaction, scope, staged);
    await noteChunks(
      transaction,
      scope,
      named.map(({ hash }) => hash),
    );
    return {
      waitingBytes: others.reduce((sum, { freshBytes }) => sum + freshBytes, 0),
      wastedBytes: others.reduce((sum, { restored }) => sum + (restored?.recipe.length ?? 0), 0),
    };
  }

  async #publish(
    transaction: Transaction<Schema>,
    path: ArrivingPath,
    contentIds: ReadonlyMap<RestoredNar, number>,
  ): Promise<void> {
    const { nar, admitted } = path;
    if (nar === undefined || admitted === undefined) return;
    delete path.failure; // of a transaction that was run before and lost
    const contentId = 'contentId' in nar ? nar.contentId : (contentIds.get(nar) ?? 0);
    try {
      if ('contentId' in nar && !(await isHeld(transaction, contentId))) throw incomplete(path.info);
      const fileSize = await storedLength(transaction, nar.recipe);
      const conflict = await this.#parts.publisher.write(transaction, admitted, { contentId, fileSize });
      if (conflict !== undefined) path.failure = conflict;
    } catch (error) {
      path.failure = clientFault(error);
    }
  }
}

interface WholeBundle {
  readonly nars: readonly ArrivingNar[];
  readonly paths: readonly ArrivingPath[];
  readonly packs: readonly SealedPack[];
}

async function readBundle(
  upload: BundleUpload,
  intake: BundleIntake,
  frames: ChunkMemory,
): Promise<ArrivingPath[]> {
  const paths: ArrivingPath[] = [];
  for await (const record of readRecords(upload.body, (length) => frames.take(length))) {
    switch (record.kind) {
      case 'begin':
        intake.begin(record);
        break;
      case 'resume':
        await intake.resume(record);
        break;
      case 'chunk':
      case 'frame':
        await intake.add(record);
        break;
      case 'path':
        if (paths.length >= MOST_PATHS_A_BUNDLE)
          throw new SlipwayError('too_large', `A bundle may have ${MOST_PATHS_A_BUNDLE} paths.`);
        paths.push({
          info: parseNarInfo(record.narInfo, upload.cache.storeDir),
          text: record.narInfo,
        });
        break;
    }
  }
  await intake.finish();
  return paths;
}

function checkCountedOn(bundles: readonly BundlePlace[]): void {
  if (!bundles.some(({ hasFailed }) => hasFailed)) return;
  throw new SlipwayError(
    'unavailable',
    'The bundle before this one failed, which brought what this one needs.',
    {
      next: 'Send both again.',
    },
  );
}

/** Adds the recipes, which make packs describe themselves, and waits until all is durable. */
async function sealed(sink: PackSink, intake: BundleIntake): Promise<readonly SealedPack[]> {
  for (const { restored } of intake.nars) {
    if (restored === undefined) continue;
    const { hash, recipe } = restored;
    const parts = [{ hash, rawLength: recipe.length }];
    await sink.append(await encodeFrame(recipe), { kind: FRAME_KIND.recipe, parts });
  }
  return await sink.finish();
}

function scopeOf({ cache, base, readable, writer }: BundleUpload): ChunkScope {
  const ids = new Set([cache, ...(base ? [base] : []), ...readable].map(({ id }) => id));
  return { readable: [...ids], cacheId: cache.id, writer: writer.id };
}

const sha256 = (bytes: Uint8Array): Hash => ({ algo: 'sha256', bytes });

function factsOf({ hash, size, flatHash }: RestoredNar | HeldContent): NarFacts {
  return {
    narHash: sha256(hash),
    narSize: size,
    flatHash: flatHash === undefined ? undefined : sha256(flatHash),
  };
}

/** What the sender can do something about is told with the path; anything else fails the whole bundle, which is sent again. */
function clientFault(error: unknown): SlipwayError {
  const known = asSlipwayError(error);
  // As it came: the database tells by it whether the transaction may be run again.
  if (known.code === 'internal' || known.code === 'unavailable') throw error;
  return known;
}

function incomplete(info: NarInfo): SlipwayError {
  return new SlipwayError('narinfo_invalid', `The chunks of ${info.storePath} do not make a whole NAR.`, {
    next: 'Push it again; if it happens again, the path may have been changed on disk: nix store verify --no-trust <path>',
  });
}
