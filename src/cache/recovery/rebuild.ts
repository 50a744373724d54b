// Restores a lost database from what is stored: packs give chunks and recipes, the journal gives caches and paths.
// Signing keys are files and are not among it; narinfos keep the signatures that they have.
import { crc32 } from 'node:zlib';
import type { Transaction } from 'kysely';
import type { BlobStore } from '../../storage/blob-store.ts';
import type { Database } from '../../storage/database.ts';
import type { Schema } from '../../storage/schema.ts';
import { SlipwayError } from '../../util/errors.ts';
import { commitPack } from '../ingest/commit-content.ts';
import { markIncompleteContents } from './content-health.ts';
import { decodeFrame } from '../../content/frame-codec.ts';
import { applyRecord } from './journal-tables.ts';
import { noteHeldChunks } from './note-held-chunks.ts';
import { listJournal, readJournal } from './read-journal.ts';
import { FRAME_KIND, rawLengthOf, type PackedFrame } from '../../content/pack-format.ts';
import { readPackIndex } from './pack-index.ts';
import { PACK_PREFIX } from '../ingest/pack-writer.ts';
import { parseRecipe } from '../../content/recipe.ts';

export interface RebuildParts {
  readonly database: Database;
  readonly blobs: BlobStore;
}

export interface RebuildResult {
  readonly packs: number;
  /** Packs whose index cannot be read: what was only in them is lost. */
  readonly brokenPacks: readonly string[];
  readonly contents: number;
  /** Contents of which a chunk is missing; their paths count as absent until they are pushed again. */
  readonly damagedContents: number;
  readonly records: number;
  /** Paths and files whose content is in no pack. */
  readonly lostRecords: number;
  readonly brokenJournals: readonly string[];
}

/** Refuses a database that holds something already. Cut off, it is started again with an empty one. */
export async function rebuildDatabase(parts: RebuildParts): Promise<RebuildResult> {
  await refuseUsed(parts.database);
  const packs = await readPacks(parts);
  const damagedContents = await markIncompleteContents(parts.database);
  const journal = await replayJournal(parts);
  await noteHeldChunks(parts.database);
  return { ...packs, damagedContents, ...journal };
}

async function refuseUsed({ read }: Database): Promise<void> {
  const pack = await read.selectFrom('pack').select('id').limit(1).executeTakeFirst();
  const path = await read.selectFrom('store_path').select('hash').limit(1).executeTakeFirst();
  if (pack === undefined && path === undefined) return;
  throw new SlipwayError('conflict', 'The database is not empty: rebuilding would mix two truths.', {
    next: 'Stop the server and move the database away (slipway.db, slipway.db-wal, slipway.db-shm), or name an empty one.',
  });
}

async function readPacks({ database, blobs }: RebuildParts) {
  const brokenPacks: string[] = [];
  let [packs, contents] = [0, 0];
  for await (const { key, size, modifiedAt } of blobs.list(PACK_PREFIX)) {
    const frames = await readPackIndex(blobs, key);
    if (frames === undefined) {
      brokenPacks.push(key);
      continue;
    }
    const recipes = await readRecipes(blobs, key, frames);
    const at = Math.round(modifiedAt);
    await database.write(async (transaction) => {
      await commitPack(transaction, { blobKey: key, size, frames }, at);
      for (const recipe of recipes) await insertContent(transaction, recipe, at);
    });
    packs++;
    contents += recipes.length;
  }
  return { packs, brokenPacks, contents };
}

/** Those that can be read; a content whose recipe cannot is not known at all, so its paths are lost. */
async function readRecipes(blobs: BlobStore, key: string, frames: readonly PackedFrame[]): Promise<Buffer[]> {
  const recipes: Buffer[] = [];
  for (const frame of frames.filter(({ kind }) => kind === FRAME_KIND.recipe)) {
    const bytes = await blobs.read(key, frame.offset, frame.length);
    if (bytes === undefined || crc32(bytes) !== frame.crc) continue;
    recipes.push(await decodeFrame(bytes, rawLengthOf(frame)));
  }
  return recipes;
}

async function insertContent(transaction: Transaction<Schema>, recipe: Buffer, now: number): Promise<void> {
  const { hash, size } = parseRecipe(recipe);
  await transaction
    .insertInto('content')
    .values({ hash, size, recipe, flat_hash: null, created_at: now, damaged_at: null })
    .onConflict((conflict) => conflict.column('hash').doNothing())
    .execute();
}

async function replayJournal({ database, blobs }: RebuildParts) {
  const brokenJournals: string[] = [];
  let [records, lostRecords, revision] = [0, 0, 0];
  for (const blob of await listJournal(blobs)) {
    revision = Math.max(revision, blob.last);
    for await (const batch of readJournal(blobs, blob)) {
      if (batch === 'broken') {
        brokenJournals.push(blob.key);
        break;
      }
      const lost = await database.write(async (transaction) => {
        const outcomes = [];
        for (const record of batch) outcomes.push(await applyRecord(transaction, record));
        return outcomes.filter((outcome) => outcome === 'lost').length;
      });
      records += batch.length;
      lostRecords += lost;
    }
  }
  await database.write(async (transaction) => {
    await transaction.insertInto('journal_state').values({ name: 'revision', value: revision }).execute();
    // The triggers noted all of it, and all of it is in the journal. What was lost is not: it is told anew when it comes back.
    if (brokenJournals.length === 0) await transaction.deleteFrom('journal_change').execute();
  });
  return { records, lostRecords, brokenJournals };
}
