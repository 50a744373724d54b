// A sample of `make test-crash`: kill -9 in the middle of uploads, collections, merges and journal writes. What was accepted
// is whole afterwards, what was not is whole or absent, what is pinned stays, fsck is clean, storage alone gives it all back.
import { randomInt } from 'node:crypto';
import { after, test } from 'node:test';
import { CrashPlaces, type Pair } from './crash/crash-places.ts';
import { tellCrashStory } from './crash/crash-story.ts';

const places = new CrashPlaces();
after(async () => await places[Symbol.asyncDispose]());

for (const pair of ['disk+sqlite', 's3+postgres'] satisfies Pair[])
  test(`a cache on ${pair} survives kill -9 at any moment`, async (t) => {
    const seed = randomInt(1_000_000);
    t.diagnostic(`seed ${seed}`);
    const figures = await tellCrashStory({ places, pair, kills: 4, seed, fsckEvery: 2 });
    t.diagnostic(JSON.stringify(figures));
  });
