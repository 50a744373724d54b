// Keeps what was fetched from upstreams: the same chunks, packs and rows as what is pushed, written by nobody but the
// upstream, so that garbage collection knows what can be had again. Keeping is a favour: where there is no room, or the
// disk fails, the NAR still goes out to whoever asked for it.
import { fingerprint, type NarInfo } from '../../nix/narinfo.ts';
import { signText } from '../../nix/signature.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import { isCode, SlipwayError } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import { commitContent } from '../ingest/commit-content.ts';
import type { ContentLayouts } from '../content-layout.ts';
import { ContentWriter } from '../ingest/content-writer.ts';
import { formatNarName } from '../nar-names.ts';
import type { PackPool } from '../ingest/pack-pool.ts';
import { writePath } from '../path-rows.ts';
import type { Quotas } from '../quotas.ts';
import type { SigningKeys } from '../signing-keys.ts';
import type { SideFiles } from '../side-files.ts';
import type { KeptFile } from './upstream-files.ts';
import type { Upstream } from './upstream.ts';
import { UPSTREAM_WRITER, type Writer } from '../writer.ts';

export interface PulledPathsParts {
  readonly database: Database;
  readonly blobs: BlobStore;
  readonly packs: PackPool;
  readonly keys: SigningKeys;
  readonly layouts: ContentLayouts;
  readonly quotas: Quotas;
  /** Called for a path that was published. */
  readonly onPublished: (cache: Cache, info: NarInfo) => void;
  readonly onProblem: (error: unknown) => void;
}

export interface PulledPath {
  readonly cache: Cache;
  /** As the upstream has it. */
  readonly info: NarInfo;
  readonly flatHash: Buffer | undefined;
  readonly upstream: Upstream;
}

/** Where one NAR goes while it arrives. Nothing here fails: what cannot be kept is not kept. */
export interface PulledStore extends AsyncDisposable {
  write(bytes: Buffer): Promise<void>;
  /** To be called once the NAR is proven to be the one of the narinfo. */
  publish(path: PulledPath): Promise<void>;
}

export class PulledPaths {
  readonly #parts: PulledPathsParts;

  constructor(parts: PulledPathsParts) {
    this.#parts = parts;
  }

  async begin(cache: Cache, size: number): Promise<PulledStore> {
    return (await this.#hasRoom(cache, size)) ? new OpenPulledStore(this.#parts) : NOTHING_KEPT;
  }

  async #hasRoom(cache: Cache, size: number): Promise<boolean> {
    if (cache.borrowedBytes !== undefined && size > cache.borrowedBytes) return false;
    try {
      await this.#parts.quotas.check(cache, undefined, size);
      return true;
    } catch (error) {
      if (!isCode(error, 'too_large')) this.#parts.onProblem(error);
      return false;
    }
  }
}

const NOTHING_KEPT: PulledStore = {
  write: async () => undefined,
  publish: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
};

class OpenPulledStore implements PulledStore {
  readonly #parts: PulledPathsParts;
  readonly #writer: ContentWriter;
  #broken = false;

  constructor(parts: PulledPathsParts) {
    this.#parts = parts;
    this.#writer = new ContentWriter(parts.database, parts.blobs, parts.packs.open());
  }

  async write(bytes: Buffer): Promise<void> {
    await this.#try(async () => await this.#writer.write(bytes));
  }

  async publish(path: PulledPath): Promise<void> {
    await this.#try(async () => await this.#publish(path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
  }

  async #try(work: () => Promise<void>): Promise<void> {
    if (this.#broken) return;
    try {
      await work();
    } catch (error) {
      this.#broken = true;
      this.#parts.onProblem(error);
    }
  }

  async #publish({ cache, info, flatHash, upstream }: PulledPath): Promise<void> {
    const { database, layouts, quotas } = this.#parts;
    const staged = { ...(await this.#writer.finish()), flatHash };
    const contentId = await database.write(
      async (transaction) => await commitContent(transaction, staged, Date.now()),
    );
    const layout = await layouts.find(contentId);
    if (layout === undefined)
      throw new SlipwayError('unavailable', `${info.storePath} was lost while it was fetched.`);
    const stored = storedNarInfo(info, layout.storedOffsets.at(-1) ?? 0);
    const own = upstream.config.sign ? await this.#sign(cache, info) : [];
    const conflict = await database.write(
      async (transaction) =>
        await writePath(transaction, {
          cache,
          info: stored,
          contentId,
          own,
          writer: writerOf(upstream),
          way: 'pull',
          complete: false,
        }),
    );
    if (conflict) throw conflict;
    quotas.note(cache, info.narSize);
    this.#parts.onPublished(cache, info);
  }

  async #sign(cache: Cache, info: NarInfo): Promise<string[]> {
    const message = fingerprint(info);
    return (await this.#parts.keys.get(cache.name)).map((key) => signText(key, message));
  }
}

/** Keeps a file beside paths, unless somebody has pushed one of that name. */
export async function keepPulledFile(
  sideFiles: SideFiles,
  { cache, name, body, upstream }: KeptFile,
): Promise<void> {
  async function* bytes(): AsyncGenerator<Buffer> {
    yield await Promise.resolve(body);
  }
  const writer = writerOf(upstream).id;
  await sideFiles.put({ cache, name, body: bytes(), contentEncoding: undefined, writer }, true);
}

function writerOf(upstream: Upstream): Writer {
  return { id: `${UPSTREAM_WRITER}${upstream.name}`, name: upstream.config.url, token: 'none' };
}

/** As it is served once the NAR is stored. */
function storedNarInfo(info: NarInfo, fileSize: number): NarInfo {
  const { fileHash: _, ...rest } = info;
  const url = `nar/${formatNarName(info.narHash.bytes, '.zst')}`;
  const references = [...new Set(info.references)].toSorted();
  return { ...rest, url, compression: 'zstd', fileSize, references };
}
