// Sends a stream as the body of a response: waits for the client, gives up on one that stalls or leaves.
import type { ServerResponse } from 'node:http';

/** A client that takes nothing for so long is gone; Nix itself gives up after the same time (stalled-download-timeout). */
const STALL_MS = 300_000;

/**
 * Resolves when the body is handed over whole or the client has gone; a failure of `body` rejects. A piece is with the
 * kernel before the next one is asked for, so pieces may be lent.
 */
export async function sendBody(response: ServerResponse, body: AsyncIterable<Buffer>): Promise<void> {
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
  return await new Promise<boolean>((resolve) => {
    const leave = (): void => resolve(false);
    response.once('close', leave);
    response.write(bytes, (error) => {
      response.off('close', leave);
      resolve(error === null || error === undefined);
    });
  });
}
