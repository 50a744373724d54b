// The life of one storage: servers that are killed one after another while clients push and read, and everything looked
// at after each restart. At its end the database is thrown away and made anew from what is stored.
import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../../../src/util/deadline.ts';
import { seededRandom } from '../../contract/seeded-random.ts';
import { CrashChild } from './crash-child.ts';
import type { CrashPlace } from './crash-messages.ts';
import { CrashModel } from './crash-model.ts';
import type { CrashPlaces, Pair } from './crash-places.ts';

export interface CrashStory {
  readonly places: CrashPlaces;
  readonly pair: Pair;
  readonly kills: number;
  readonly seed: number;
  /** fsck reads all there is: not after each kill. */
  readonly fsckEvery: number;
  readonly onKill?: () => void;
}

export interface CrashFigures {
  readonly kills: number;
  readonly accepted: number;
  readonly refused: number;
  readonly reads: number;
  readonly fscks: number;
}

/** SLIPWAY_CRASH_KEEP=1: what a failed story leaves can be looked at. */
const KEEP = process.env['SLIPWAY_CRASH_KEEP'] !== undefined;
const LONGEST_ROUND_MS = 20_000;

export async function tellCrashStory(story: CrashStory): Promise<CrashFigures> {
  const { places, pair, kills, fsckEvery } = story;
  const place = await places.make(pair);
  const random = seededRandom(story.seed);
  const model = new CrashModel(random, `${story.seed}`);
  let fscks = 0;
  const check = async (child: CrashChild): Promise<void> => {
    fscks++;
    assertClean(await child.fsck());
  };
  let spare = new CrashChild();
  try {
    for (let kill = 0; kill < kills; kill++) {
      const child = spare;
      await child.open(place);
      assertNothingUnfinished(place);
      await model.assertSome(child, 6);
      if (kill % fsckEvery === 0) await check(child);
      spare = new CrashChild();
      model.nextRound();
      await dieAtWork(child, model, random);
      story.onKill?.();
    }
    await spare.open(place);
    await model.assertAll(spare);
    await check(spare);
    await spare.close();
    spare = new CrashChild();
    await spare.open(await places.loseDatabase(place), true);
    await model.assertAll(spare);
    await check(spare);
  } catch (error) {
    if (KEEP) process.stdout.write(`kept: ${JSON.stringify(place)}\n`);
    throw error;
  } finally {
    await spare[Symbol.asyncDispose]();
    if (!KEEP) rmSync(place.data, { recursive: true, force: true });
  }
  return { kills, accepted: model.accepted, refused: model.refused, reads: model.reads, fscks };
}

/** Half of the deaths are at a step of storage, which the seed decides; half at any moment. */
async function dieAtWork(child: CrashChild, model: CrashModel, random: () => number): Promise<void> {
  const byStep = random() < 0.5;
  const dieAt = byStep ? 1 + Math.floor(random() ** 2 * 400) : undefined;
  const moment = { uploads: Math.floor(random() * 10), afterMs: random() ** 2 * 300 };
  const late = setTimeout(() => void child.kill(), LONGEST_ROUND_MS);
  try {
    await child.work({ dieAt, collect: true }).catch((error: unknown) => {
      if (child.alive) throw error;
    });
    await Promise.all([
      model.pushUntilDead(child),
      model.pushUntilDead(child),
      model.readUntilDead(child),
      byStep ? child.ended() : killAtMoment(child, model, moment),
    ]);
    child.check();
  } finally {
    clearTimeout(late);
    await child[Symbol.asyncDispose]();
  }
}

/** So many uploads later, and then some: on a busy machine, too, something was going on. */
async function killAtMoment(
  child: CrashChild,
  model: CrashModel,
  { uploads, afterMs }: { readonly uploads: number; readonly afterMs: number },
): Promise<void> {
  const enough = model.accepted + model.refused + uploads;
  while (child.alive && model.accepted + model.refused < enough) await sleep(5);
  await sleep(afterMs);
  await child.kill();
}

function assertNothingUnfinished({ data, s3 }: CrashPlace): void {
  if (s3 === undefined) assert.deepEqual(readdirSync(join(data, 'packs', 'tmp')), []);
}

function assertClean(report: Awaited<ReturnType<CrashChild['fsck']>>): void {
  assert.ok(report.clean, `fsck: ${JSON.stringify(report)}`);
}
