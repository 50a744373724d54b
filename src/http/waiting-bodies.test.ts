import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SMALLEST_PIECE, WaitingBodies } from './waiting-bodies.ts';

const MIB = 1024 * 1024;
const LIMITS = { crowd: 2, patienceMs: 100, plentyBytes: 4 * MIB, tightBytes: 8 * MIB, mostBytes: 10 * MIB };

class Crowd {
  readonly bodies = new WaitingBodies(LIMITS);
  readonly cut: number[] = [];
  readonly #taken = Promise.withResolvers<void>();
  readonly #waiting: Promise<void>[] = [];

  /** The `n`th body waits with these bytes. */
  wait(n: number, since: number, bytes: Buffer = Buffer.allocUnsafeSlow(1)): void {
    this.#waiting.push(
      this.bodies.during({ destroy: () => this.cut.push(n) }, bytes, this.#taken.promise, since),
    );
  }

  async takeAll(): Promise<void> {
    this.#taken.resolve();
    await Promise.all(this.#waiting.splice(0));
  }
}

test('in a crowd, those that have waited too long make room; alone, nobody does', async () => {
  const crowd = new Crowd();
  crowd.wait(1, 0);
  crowd.wait(2, 50);
  crowd.bodies.makeRoom(10_000);
  assert.deepEqual(crowd.cut, [], 'two are no crowd');
  crowd.wait(3, 120);
  crowd.bodies.makeRoom(160); // the third has waited for 40 ms, the second for 110
  assert.deepEqual(crowd.cut, [1, 2]);
  crowd.bodies.makeRoom(10_000);
  assert.deepEqual(crowd.cut, [1, 2]);
  await crowd.takeAll();
});

test('the more is held, the smaller are the pieces, and nobody holds a large one for a small part of it', async () => {
  const crowd = new Crowd();
  let held = 0;
  for (let n = 0; n < 400; n++) {
    const piece = crowd.bodies.fitting(Buffer.allocUnsafeSlow(MIB));
    if (held <= LIMITS.plentyBytes) assert.equal(piece.length, MIB);
    assert.ok(piece.length >= SMALLEST_PIECE && piece.buffer.byteLength === piece.length);
    crowd.wait(n, 0, piece);
    held += piece.length;
  }
  assert.ok(held <= LIMITS.tightBytes + 400 * SMALLEST_PIECE, `${held} bytes are held`);
  await crowd.takeAll();
  assert.equal(
    crowd.bodies.fitting(Buffer.allocUnsafeSlow(MIB)).length,
    MIB,
    'what was taken counts no more',
  );
});

test('when too much is held all the same, who has waited longest with a large piece has to go', async () => {
  const crowd = new Crowd();
  crowd.wait(0, 0);
  for (let n = 1; n <= 10; n++) crowd.wait(n, n, Buffer.allocUnsafeSlow(MIB).subarray(0, 10));
  assert.deepEqual(crowd.cut, [1], 'a part holds the whole buffer');
  crowd.wait(11, 11, Buffer.allocUnsafeSlow(2 * MIB));
  assert.deepEqual(crowd.cut, [1, 2, 3]);
  await crowd.takeAll();
});
