// The body of an upload: invited only once it is wanted, limited at the door, never taken as whole when it was cut, and
// not waited for without end: it has a turn that others wait for.
import type { IncomingMessage } from 'node:http';
import { SlipwayError } from '../util/errors.ts';
import type { Exchange, UploadPace } from './cache-request.ts';

export const DEFAULT_PACE: UploadPace = { patienceMs: 60_000, slowest: 1024 };

/** Refuses at once when the stated length is over `limit`; the stream fails when more arrives, or less than stated. */
export function readUpload(incoming: Exchange, limit: number): AsyncIterable<Buffer> {
  if (Number(incoming.request.headers['content-length'] ?? 0) > limit) throw tooLarge(limit);
  return readPieces(incoming, limit);
}

export async function readUploadBytes(incoming: Exchange, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readUpload(incoming, limit)) pieces.push(piece);
  return Buffer.concat(pieces);
}

export async function readUploadText(incoming: Exchange, limit: number): Promise<string> {
  return (await readUploadBytes(incoming, limit)).toString('utf8');
}

async function* readPieces({ request, response, pace }: Exchange, limit: number): AsyncIterable<Buffer> {
  // `Expect: 100-continue` waits for this line. Sending it only here means that a refused upload never starts.
  if (request.headers.expect !== undefined) response.writeContinue();
  const pieces = request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  const patience = new Patience(pace);
  let size = 0;
  try {
    for (;;) {
      const piece = await nextPiece(request, pieces, patience);
      if (piece === undefined) break;
      size += piece.length;
      if (size > limit) throw tooLarge(limit);
      yield piece;
    }
  } catch (error) {
    // The answer is then the last thing that this connection carries: what would come after it comes as slowly.
    if (patience.isOver) response.setHeader('connection', 'close');
    throw error;
  } finally {
    const left = pieces.return?.(); // leaves the request open: the refusal is still to be answered
    if (!patience.isOver) await left; // else it waits for the piece that did not come
  }
  if (!request.complete) throw cutOff();
}

async function nextPiece(
  request: IncomingMessage,
  pieces: AsyncIterator<Buffer>,
  patience: Patience,
): Promise<Buffer | undefined> {
  try {
    const next = await patience.wait(pieces.next());
    return next.done === true ? undefined : next.value;
  } catch (error) {
    throw patience.isOver && !request.destroyed ? error : cutOff(error);
  }
}

/**
 * The time that a client may still keep us waiting: so long at the beginning, and again as much for every byte as the
 * slowest rate gives it. Waiting for our own storage does not count: pieces that lie ready cost no time.
 */
class Patience {
  readonly #pace: UploadPace;
  #leftMs: number;
  isOver = false;

  constructor(pace: UploadPace) {
    this.#pace = pace;
    this.#leftMs = pace.patienceMs;
  }

  async wait(piece: Promise<IteratorResult<Buffer>>): Promise<IteratorResult<Buffer>> {
    const began = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        this.isOver = true;
        reject(tooSlow(this.#pace));
      }, this.#leftMs);
    });
    try {
      const next = await Promise.race([piece, late]);
      this.#leftMs -= performance.now() - began;
      if (next.done !== true) this.#earn(next.value.length);
      return next;
    } finally {
      clearTimeout(timer);
    }
  }

  #earn(bytes: number): void {
    const { patienceMs, slowest } = this.#pace;
    this.#leftMs = Math.min(patienceMs, this.#leftMs + (bytes * 1000) / slowest);
  }
}

function tooSlow({ patienceMs, slowest }: UploadPace): SlipwayError {
  return new SlipwayError(
    'too_slow',
    `The upload came too slowly: at least ${slowest} bytes a second are expected, over ${Math.ceil(patienceMs / 1000)} s.`,
    {
      next: 'Send it again over a better connection, or change uploads.slowest and uploads.patience of the server.',
    },
  );
}

function cutOff(cause?: unknown): SlipwayError {
  return new SlipwayError('cancelled', 'The upload was cut off before its end.', { cause });
}

function tooLarge(limit: number): SlipwayError {
  return new SlipwayError(
    'too_large',
    `The upload is larger than the ${limit} bytes that are accepted here.`,
  );
}
