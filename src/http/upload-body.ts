// The body of an upload: invited only once it is wanted, limited at the door, and never taken as whole when it was cut.
import type { IncomingMessage } from 'node:http';
import { SlipwayError } from '../util/errors.ts';
import type { Exchange } from './cache-request.ts';

/** A client that sends nothing for so long is gone. Waiting for our own storage does not count. */
const STALL_MS = 120_000;

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

async function* readPieces({ request, response }: Exchange, limit: number): AsyncIterable<Buffer> {
  // `Expect: 100-continue` waits for this line. Sending it only here means that a refused upload never starts.
  if (request.headers.expect !== undefined) response.writeContinue();
  const pieces = request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  let size = 0;
  try {
    for (;;) {
      const piece = await nextPiece(request, pieces);
      if (piece === undefined) break;
      size += piece.length;
      if (size > limit) throw tooLarge(limit);
      yield piece;
    }
  } finally {
    await pieces.return?.(); // leaves the request open: the refusal is still to be answered
  }
  if (!request.complete) throw cutOff();
}

async function nextPiece(
  request: IncomingMessage,
  pieces: AsyncIterator<Buffer>,
): Promise<Buffer | undefined> {
  const timer = setTimeout(() => request.destroy(), STALL_MS);
  try {
    const next = await pieces.next();
    return next.done === true ? undefined : next.value;
  } catch (error) {
    throw cutOff(error);
  } finally {
    clearTimeout(timer);
  }
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
