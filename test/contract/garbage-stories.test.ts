// Whatever is pushed, used, pinned, collected and cut off in any order: every path that is there is whole and has its
// closure, and nothing that is kept ever goes. SLIPWAY_GARBAGE_RUNS sets how many stories are told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isCode } from '../../src/util/errors.ts';
import { block, Scene } from './garbage-scene.ts';

interface Push {
  readonly kind: 'push';
  readonly name: number;
  readonly blocks: readonly number[];
  readonly references: readonly number[];
}

type Request = Push | { readonly kind: 'use'; readonly name: number };

type Step =
  | Request
  | { readonly kind: 'pin'; readonly name: number }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'collect' | 'unpin' }
  | { readonly kind: 'cut'; readonly steps: number }
  /** A collection with a request in its middle. */
  | { readonly kind: 'race'; readonly steps: number; readonly request: Request }
  /** An upload whose bytes came some time before it is published. */
  | {
      readonly kind: 'late';
      readonly push: Push;
      readonly between: readonly Step[];
      readonly inside: number;
    };

const NAMES = 5;
const push: fc.Arbitrary<Push> = fc.record({
  kind: fc.constant('push' as const),
  name: fc.nat(NAMES - 1),
  blocks: fc.array(fc.nat(4), { minLength: 1, maxLength: 3 }),
  references: fc.array(fc.nat(NAMES - 1), { maxLength: 3 }),
});
const use = fc.record({ kind: fc.constant('use' as const), name: fc.nat(NAMES - 1) });
const wait = fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(10, 35, 60, 120) });
const collect: Step = { kind: 'collect' };
const race = fc.record({
  kind: fc.constant('race' as const),
  steps: fc.nat(5),
  request: fc.oneof(push, use),
});
const late = fc.record({
  kind: fc.constant('late' as const),
  push,
  between: fc.array(fc.oneof(wait, fc.constant(collect)), { maxLength: 6 }),
  inside: fc.nat(5),
});

/** Everything unused is about to be removed: then something happens. */
const brink = fc
  .tuple(fc.constantFrom(1, 2, 3), fc.oneof(race, late))
  .map(([rounds, last]): Step[] => [
    ...Array.from({ length: rounds }, (): Step[] => [{ kind: 'wait', ms: 120 }, collect]).flat(),
    { kind: 'wait', ms: 60 },
    last,
  ]);

const step: fc.Arbitrary<Step> = fc.oneof(
  push,
  use,
  wait,
  race,
  late,
  fc.record({ kind: fc.constant('pin' as const), name: fc.nat(NAMES - 1) }),
  fc.record({ kind: fc.constantFrom('collect' as const, 'unpin' as const) }),
  fc.record({ kind: fc.constant('cut' as const), steps: fc.nat(8) }),
);
const story = fc
  .array(
    fc.oneof(
      fc.array(push, { minLength: 2, maxLength: 4 }),
      brink,
      step.map((one) => [one]),
    ),
    { minLength: 4, maxLength: 12 },
  )
  .map((parts) => parts.flat());

const RUNS = Number(process.env['SLIPWAY_GARBAGE_RUNS'] ?? 25);

test('nothing that is kept is ever collected, in any order of pushes, uses, pins, collections and crashes', async () => {
  await fc.assert(
    fc.asyncProperty(story, async (steps) => {
      await using scene = await Scene.open();
      const kept = new Keeper(scene);
      for (const one of steps) {
        await kept.take(one);
        await scene.assertSound();
        await kept.assertThere();
      }
    }),
    { numRuns: RUNS },
  );
});

/** Knows what must be there: pinned, or used within the retention. */
class Keeper {
  readonly #scene: Scene;
  readonly #pinned = new Set<string>();
  readonly #usedAt = new Map<string, number>();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  async take(one: Step): Promise<void> {
    const scene = this.#scene;
    if (one.kind === 'wait') scene.now += one.ms;
    else if (one.kind === 'collect') await scene.collect();
    else if (one.kind === 'cut') await scene.collectCut(one.steps);
    else if (one.kind === 'race')
      await scene.collectWhile(one.steps, async () => await this.#request(one.request));
    else if (one.kind === 'late') await this.#late(one);
    else if (one.kind === 'pin') await this.#pin(`p${one.name}`);
    else if (one.kind === 'use' || one.kind === 'push') await this.#request(one);
    else {
      await scene.unpinAll();
      this.#pinned.clear();
    }
  }

  async #request(one: Request): Promise<void> {
    if (one.kind === 'use') await this.#use(`p${one.name}`);
    else await this.#push(one, async (publish) => await publish());
  }

  async #late({ push, between, inside }: Extract<Step, { kind: 'late' }>): Promise<void> {
    await this.#push(push, async (publish) => {
      for (const one of between) await this.take(one);
      await this.#scene.collectWhile(inside, publish);
    });
  }

  async assertThere(): Promise<void> {
    const here = new Set(await this.#scene.names());
    for (const name of this.#pinned) assert.ok(here.has(name), `${name} was pinned and is gone`);
    for (const [name, at] of this.#usedAt)
      if (at > this.#scene.now - 100) assert.ok(here.has(name), `${name} was used and is gone`);
  }

  async #push(one: Push, when: (publish: () => Promise<void>) => Promise<void>): Promise<void> {
    const here = new Set(await this.#scene.names());
    const name = `p${one.name}`;
    const held = here.has(name) ? this.#scene.contents.get(name) : undefined;
    const bytes = held ?? Buffer.concat(one.blocks.map(block));
    const wanted = held
      ? (this.#scene.references.get(name) ?? [])
      : [...new Set(one.references)].filter((other) => other < one.name).map((other) => `p${other}`);
    const upload = {
      staged: await this.#scene.stage(bytes),
      references: wanted.filter((other) => here.has(other)),
    };
    await when(async () => {
      if (await this.#publish(name, bytes, upload)) this.#usedAt.set(name, this.#scene.now);
    });
  }

  /** False: something that it counted on was collected before. */
  async #publish(...upload: Parameters<Scene['publish']>): Promise<boolean> {
    try {
      return await this.#scene.publish(...upload);
    } catch (error) {
      if (isCode(error, 'unavailable')) return false;
      throw error;
    }
  }

  async #use(name: string): Promise<void> {
    if (await this.#scene.use(name)) this.#usedAt.set(name, this.#scene.now);
  }

  async #pin(name: string): Promise<void> {
    if (!(await this.#scene.names()).includes(name)) return;
    await this.#scene.pin(name);
    this.#pinned.add(name);
  }
}
