// Sends a stream as the body of a response: waits for the client, gives up on one that stalls or leaves.
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { deadline } from '../util/deadline.ts';

/** A client that takes nothing for so long is gone; Nix itself gives up after the same time (stalled-download-timeout). */
const STALL_MS = 300_000;

/** Resolves when the body is handed over whole or the client has gone; a failure of `body` rejects. */
export async function sendBody(response: ServerResponse, body: AsyncIterable<Buffer>): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  for await (const bytes of body) {
    if (response.destroyed) return;
    if (!response.write(bytes) && !(await drained(response, gone.signal))) return void response.destroy();
  }
  response.end();
}

async function drained(response: ServerResponse, gone: AbortSignal): Promise<boolean> {
  try {
    await once(response, 'drain', { signal: deadline(STALL_MS, gone) });
    return true;
  } catch {
    return false; // the client left or stalled: neither is our failure
  }
}
