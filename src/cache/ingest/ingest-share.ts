// What uploads do on the event loop: hashing, cutting and checking what they decode to. A few kilobytes may decode to
// gigabytes, and look-ups go on beside them.
import { LoopShare } from '../../util/loop-share.ts';

/** About a millisecond of work. */
const STEP_BYTES = 256 * 1024;

/** Of all uploads. */
export const ingestShare: LoopShare = new LoopShare();

/** The bytes in steps, each when its turn comes. */
export async function* inSteps(pieces: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  for await (const piece of pieces)
    for (let at = 0; at < piece.length; at += STEP_BYTES) {
      await ingestShare.next();
      yield piece.subarray(at, at + STEP_BYTES);
    }
}
