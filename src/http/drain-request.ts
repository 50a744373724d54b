// After an answer that did not need the whole body, most of all a refusal: what a client still sends is read and dropped for
// a while, because closing at once would take the answer from under it. Then it is cut: nobody holds a connection by sending
// a byte now and then.
import type { IncomingMessage } from 'node:http';

const DRAINED_BYTES = 64 * 1024 * 1024;
const DRAINED_MS = 30_000;

export function drainRequest(request: IncomingMessage): void {
  let left = DRAINED_BYTES;
  const timer = setTimeout(() => request.destroy(), DRAINED_MS).unref();
  request.on('data', (bytes: Buffer) => {
    left -= bytes.length;
    if (left < 0) request.destroy();
  });
  request.once('close', () => clearTimeout(timer));
  request.once('end', () => clearTimeout(timer));
}
