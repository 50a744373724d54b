// Sends the body of a response: a stream, waiting for the client and giving up on one that stalls or leaves; or a text.
import type { ServerResponse } from 'node:http';
import { WaitingBodies } from './waiting-bodies.ts';

/** A client that takes nothing for so long is gone; Nix itself gives up after the same time (stalled-download-timeout). */
const STALL_MS = 300_000;
const waiting = new WaitingBodies({ crowd: 256, patienceMs: 30_000 });

/**
 * Resolves when the body is handed over whole or the client has gone; a failure of `body` rejects. A piece is with the
 * kernel before the next one is asked for, so pieces may be lent.
 */
export async function sendBody(response: ServerResponse, body: AsyncIterable<Buffer>): Promise<void> {
  waiting.makeRoom();
  const stalled = setTimeout(() => response.destroy(), STALL_MS);
  try {
    for await (const bytes of body) if (!(await sent(response, bytes, stalled))) return;
  } finally {
    clearTimeout(stalled);
  }
  response.end();
}

/** False when the client has left or stalled: neither is our failure. */
async function sent(response: ServerResponse, bytes: Buffer, stalled: NodeJS.Timeout): Promise<boolean> {
  if (response.destroyed) return false;
  stalled.refresh();
  const taken = new Promise<boolean>((resolve) => {
    const leave = (): void => resolve(false);
    response.once('close', leave);
    response.write(bytes, (error) => {
      response.off('close', leave);
      resolve(error === null || error === undefined);
    });
  });
  return await waiting.during(response, taken);
}

/** `bytes`: length of the text in UTF-8. Headers and text go to the kernel as one string, which two buffers would not. */
export function endWithText(response: ServerResponse, text: string, bytes: number): void {
  // Of as many bytes as characters, a text is ASCII, which is sent faster when that is said.
  response.end(text, text.length === bytes ? 'latin1' : 'utf8');
}
