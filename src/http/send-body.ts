// Sends the body of a response, waiting for the client and giving up on one that stalls or leaves; or a text. However many
// clients take nothing, what is held in memory for all of them is bounded: see WaitingBodies and ReadingTurns.
import type { ServerResponse } from 'node:http';
import { SlipwayError } from '../util/errors.ts';
import { ReadingTurns, type ReadingTurn } from './reading-turns.ts';
import { WaitingBodies } from './waiting-bodies.ts';

const MIB = 1024 * 1024;
/** A client that takes nothing for so long is gone; Nix itself gives up after the same time (stalled-download-timeout). */
const STALL_MS = 300_000;
const waiting = new WaitingBodies({
  crowd: 256,
  patienceMs: 30_000,
  plentyBytes: 32 * MIB,
  tightBytes: 64 * MIB,
  mostBytes: 192 * MIB,
});
/** Each holds up to three runs of packs. */
const turns = new ReadingTurns(48);

/** The bytes of a body from a position on; `undefined` when they cannot be had. */
export type ReadFrom = (at: number) => Promise<AsyncIterable<Buffer> | undefined>;

/**
 * Calls `promise` once the first piece is there, and sends all; false, without that, when there is none. The body is read
 * again from where its client went on, if need be, so only what he is to take next stays in memory while he does not.
 * A piece is with the kernel before the next one is asked for, so pieces may be lent. A later failure to read rejects.
 */
export async function sendRepeatable(
  response: ServerResponse,
  readFrom: ReadFrom,
  promise: () => void,
): Promise<boolean> {
  using client = new Client(response);
  const body = { response, readFrom, promise, client };
  let at = 0;
  let ready = whenNext(response);
  while (await ready) {
    // In a function of its own: what it has read would otherwise stay in memory while this one waits.
    const part = await sendPart(body, at);
    if (part === undefined) return false;
    if (part === 'all') return true;
    at += part.bytes;
    ready = part.taken;
  }
  return true;
}

interface Repeatable {
  readonly response: ServerResponse;
  readonly readFrom: ReadFrom;
  readonly promise: () => void;
  readonly client: Client;
}

/** What was sent, the last of which is not taken yet; false: the client has left. */
interface SentPart {
  readonly bytes: number;
  readonly taken: Promise<boolean>;
}

/** Sends until the end, or until its turn is taken away because the client takes nothing; `undefined`: there is nothing. */
async function sendPart(body: Repeatable, at: number): Promise<SentPart | 'all' | undefined> {
  const { response, client } = body;
  using turn = await turns.take();
  const pieces = await body.readFrom(at);
  if (pieces === undefined && !response.headersSent) return undefined;
  if (pieces === undefined) throw new SlipwayError('unavailable', 'The rest of the body is gone.');
  if (!response.headersSent) body.promise();
  const part = await sendDuring(turn, client, pieces);
  if (part === 'all') response.end();
  return part;
}

async function sendDuring(
  turn: ReadingTurn,
  client: Client,
  pieces: AsyncIterable<Buffer>,
): Promise<SentPart | 'all'> {
  let bytes = 0;
  for await (const piece of pieces)
    for (let used = 0; used < piece.length;) {
      const part = waiting.fitting(piece.subarray(used));
      used += part.length;
      bytes += part.length;
      const taken = client.take(part);
      if ((await turn.during(taken)) !== true) return { bytes, taken };
    }
  return 'all';
}

/**
 * Resolves when the response is the next one that its client takes, who may ask for more before it has the answers; false
 * when the client has left.
 */
export async function whenNext(response: ServerResponse): Promise<boolean> {
  if (response.socket === null && !response.destroyed)
    await new Promise<void>((resolve) => {
      response.once('socket', () => resolve());
      response.req.once('close', () => resolve());
    });
  return response.socket !== null && !response.destroyed;
}

/** Sends what cannot be read again. Resolves when it is handed over whole or the client has gone; its failure rejects. */
export async function sendBody(response: ServerResponse, body: AsyncIterable<Buffer>): Promise<void> {
  using client = new Client(response);
  for await (const bytes of body) if (!(await client.take(bytes))) return;
  response.end();
}

class Client implements Disposable {
  readonly #response: ServerResponse;
  readonly #stalled: NodeJS.Timeout;

  constructor(response: ServerResponse) {
    waiting.makeRoom();
    this.#response = response;
    this.#stalled = setTimeout(() => response.destroy(), STALL_MS);
  }

  /** False when the client has left or stalled: neither is our failure. */
  async take(bytes: Buffer): Promise<boolean> {
    const response = this.#response;
    if (response.destroyed) return false;
    this.#stalled.refresh();
    const taken = new Promise<boolean>((resolve) => {
      const leave = (): void => resolve(false);
      response.once('close', leave);
      response.write(bytes, (error) => {
        response.off('close', leave);
        resolve(error === null || error === undefined);
      });
    });
    return await waiting.during(response, bytes, taken);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#stalled);
  }
}

/** `bytes`: length of the text in UTF-8. Headers and text go to the kernel as one string, which two buffers would not. */
export function endWithText(response: ServerResponse, text: string, bytes: number): void {
  // Of as many bytes as characters, a text is ASCII, which is sent faster when that is said.
  response.end(text, text.length === bytes ? 'latin1' : 'utf8');
}
