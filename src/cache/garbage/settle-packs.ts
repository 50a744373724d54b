// Compresses anew, and for good, what uploads have stored as fast as it came: with all effort, in larger frames, each of chunks
// that go out together (plan-frames.ts). Packs come to rest like this once, some time after they were written; what they
// held is a tenth smaller then, on disk and on its way to every host (docs/adr/0022).
import { decodeFrame } from '../../content/frame-codec.ts';
import { FRAME_KIND, rawLengthOf, type PackedFrame } from '../../content/pack-format.ts';
import { parseRecipe, type Recipe } from '../../content/recipe.ts';
import { joinChunks, type LooseChunk } from '../../content/remake-frames.ts';
import type { Database } from '../../storage/database.ts';
import { SlipwayError } from '../../util/errors.ts';
import { sql } from 'kysely';
import { chunksOf } from '../ingest/commit-content.ts';
import type { PackWriter } from '../ingest/pack-writer.ts';
import { chunkKey } from '../stored-chunks.ts';
import { damagedPacks } from './damaged-packs.ts';
import { planFrames } from './plan-frames.ts';
import {
  copyFrame,
  readLivePack,
  replacePacks,
  type LivePack,
  type PackRow,
  type RewriteOptions,
  type RewriteParts,
} from './rewrite-packs.ts';
import { StoredFrames } from './stored-frames.ts';

/** Packs that are settled together: the recipes of a NAR's chunks are mostly among them. */
const TOGETHER_BYTES = 512 * 1024 * 1024;
const LONGEST_WAIT_MS = 24 * 3600_000;
/** Then no more are begun: what a collection does besides must not wait for long. */
const LONGEST_RUN_MS = 10 * 60_000;

export interface SettleOptions extends Required<RewriteOptions> {
  /** Younger packs are left alone: they may be merged first. */
  readonly youngMs: number;
  /** Less is not worth the writing, unless it has waited for a day. */
  readonly settleBytes: number;
  /** Bytes of packs that are done, and of all that wait. */
  readonly onSettled?: (done: number, all: number) => void;
}

export interface Settling {
  readonly packs: number;
  /** Bytes of packs that were retired less what was written in their place. */
  readonly savedBytes: number;
}

/** Settles what is worth it, oldest first, for some minutes. What cannot be read is left as it is. */
export async function settlePacks(parts: RewriteParts, options: SettleOptions): Promise<Settling> {
  const skip = new Set<number>();
  const end = performance.now() + LONGEST_RUN_MS;
  const all = await unsettledBytesBefore(parts.database, options.now - options.youngMs);
  let done = 0;
  const onChunk = (bytes: number): void => options.onSettled?.(Math.round((done += bytes)), all);
  let [packs, savedBytes] = [0, 0];
  while (performance.now() < end) {
    await options.progress();
    const group = await findUnsettled(parts.database, options, skip);
    if (group.length === 0) break;
    const saved = await settleGroup(parts, group, { ...options, onChunk }, skip);
    if (saved === undefined) continue;
    packs += group.length;
    savedBytes += saved;
  }
  return { packs, savedBytes };
}

/** Bytes of packs that wait to be settled and are old enough. */
export async function unsettledBytesBefore({ read }: Database, before: number): Promise<number> {
  const row = await unsettled(read)
    .select((builder) => builder.fn.sum<number | string | null>('size').as('bytes'))
    .where('created_at', '<=', before)
    .executeTakeFirst();
  return Number(row?.bytes ?? 0);
}

/** Packs half of which, or more, is as it came. */
function unsettled(read: Database['read']) {
  return read
    .selectFrom('pack')
    .where('retired_at', 'is', null)
    .where(sql<number>`2 * coalesce(unsettled_bytes, size)`, '>=', sql.ref<number>('size'));
}

async function findUnsettled(
  database: Database,
  { now, youngMs, settleBytes }: SettleOptions,
  skip: ReadonlySet<number>,
): Promise<PackRow[]> {
  const rows = await unsettled(database.read)
    .select(['id', 'blob_key', 'size', 'created_at'])
    .where('created_at', '<=', now - youngMs)
    .orderBy('id')
    .execute();
  const ids = rows.map(({ id }) => id);
  const damaged = await damagedPacks(database, ids);
  const group: PackRow[] = [];
  let [bytes, oldest] = [0, now];
  for (const row of rows.filter(({ id }) => !damaged.has(id) && !skip.has(id))) {
    if (group.length > 0 && bytes + row.size > TOGETHER_BYTES) break;
    group.push(row);
    bytes += row.size;
    oldest = Math.min(oldest, row.created_at);
  }
  return bytes >= settleBytes || oldest < now - LONGEST_WAIT_MS ? group : [];
}

interface Steps {
  readonly progress: () => Promise<void>;
  /** Called with a chunk's share of the bytes of its frame. */
  readonly onChunk: (bytes: number) => void;
}

interface GroupOptions extends Steps {
  readonly now: number;
}

/** Bytes saved. `undefined` when a pack could not be read: it is in `skip` then, and the others may be tried without it. */
async function settleGroup(
  parts: RewriteParts,
  group: readonly PackRow[],
  { now, ...steps }: GroupOptions,
  skip: Set<number>,
): Promise<number | undefined> {
  const live: LivePack[] = [];
  for (const pack of group) {
    const read = await readLivePack(parts, pack);
    if (read === undefined) skip.add(pack.id);
    else live.push(read);
  }
  if (live.length < group.length) return undefined;
  try {
    const settling = new SettlingPacks(parts, live);
    const write = async (writer: PackWriter): Promise<void> => await settling.write(writer, steps);
    const sealed = await replacePacks(parts, group, write, now);
    return sizeOf(group) - sizeOf(sealed);
  } catch (error) {
    if (!(error instanceof SlipwayError) || error.code !== 'unavailable') throw error;
    const broken = group.filter(({ blob_key }) => blob_key === error.facts['pack']);
    for (const { id } of broken.length > 0 ? broken : group) skip.add(id);
    return undefined;
  }
}

function sizeOf(packs: readonly { readonly size: number }[]): number {
  return packs.reduce((sum, { size }) => sum + size, 0);
}

/** Where a chunk that is to be settled lies. */
interface Source {
  readonly pack: PackRow;
  readonly frame: PackedFrame;
}

/** Packs on their way into settled ones. */
class SettlingPacks {
  readonly #frames: StoredFrames;
  readonly #live: readonly LivePack[];
  readonly #sources = new Map<string, Source>();
  /** Chunks whose content is not known here stay as they lie: by frame. */
  readonly #apart: string[][] = [];

  constructor({ blobs }: RewriteParts, live: readonly LivePack[]) {
    this.#frames = new StoredFrames(blobs);
    this.#live = live;
    for (const { pack, frames } of live)
      for (const { frame, keep } of frames) {
        if (frame.kind !== FRAME_KIND.chunk || frame.settled === true) continue;
        const keys = (keep ?? chunksOf(frame)).map(({ hash }) => chunkKey(hash));
        for (const key of keys) this.#sources.set(key, { pack, frame });
        this.#apart.push(keys);
      }
  }

  async write(writer: PackWriter, { progress, onChunk }: Steps): Promise<void> {
    const recipes = await this.#copyOthers(writer, progress);
    const planned = planFrames(recipes, new Set(this.#sources.keys()));
    const known = new Set(planned.flat());
    const apart = this.#apart.map((keys) => keys.filter((key) => !known.has(key)));
    for (const keys of [...planned, ...apart.filter(({ length }) => length > 0)]) {
      await progress();
      const chunks: LooseChunk[] = [];
      for (const key of keys) chunks.push(await this.#chunk(key));
      for (const made of await joinChunks(chunks, 'thorough'))
        await writer.append(made.frame, { kind: FRAME_KIND.chunk, parts: made.chunks, settled: true });
      for (const [n, { bytes }] of chunks.entries()) onChunk(bytes.length * this.#ratioOf(keys[n] ?? ''));
    }
  }

  /** Everything but what is to be settled goes as it is, recipes once; returns these. */
  async #copyOthers(writer: PackWriter, progress: () => Promise<void>): Promise<Recipe[]> {
    const recipes = new Map<string, Recipe>();
    for (const { pack, frames } of this.#live)
      for (const live of frames) {
        const { frame } = live;
        if (frame.kind === FRAME_KIND.chunk && frame.settled !== true) continue;
        await progress();
        const bytes = await this.#frames.read(pack, frame);
        if (frame.kind !== FRAME_KIND.recipe) {
          await copyFrame(writer, live, bytes);
          continue;
        }
        const key = frame.parts.map(({ hash }) => chunkKey(hash)).join('');
        if (recipes.has(key)) continue;
        recipes.set(key, parseRecipe(await decodeFrame(bytes, rawLengthOf(frame))));
        await writer.append(bytes, frame);
      }
    return [...recipes.values()];
  }

  /** How many bytes a byte of the chunk takes as it is stored. */
  #ratioOf(key: string): number {
    const { frame } = this.#sources.get(key) as Source;
    return frame.length / rawLengthOf(frame);
  }

  async #chunk(key: string): Promise<LooseChunk> {
    const { pack, frame } = this.#sources.get(key) as Source;
    return (await this.#frames.chunks(pack, frame)).get(key) as LooseChunk;
  }
}
