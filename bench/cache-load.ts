// Asks a server for small answers as fast as it gives them, over kept connections, with next to no work for each.
import { connect } from 'node:net';

export interface Load {
  readonly origin: string;
  /** Asked for in turns, each connection from a place of its own. */
  readonly paths: readonly string[];
  readonly requests: number;
  readonly connections: number;
  /** All connections together; without it they ask again as soon as they are answered. */
  readonly perSecond?: number;
  /** Hears how long each answer took, in ms, from when it should have been asked for. */
  readonly onAnswer?: (ms: number) => void;
}

/** Resolves to the milliseconds that all requests took. Every answer must have the expected status and a length. */
export async function runLoad(load: Load, status = 200): Promise<number> {
  const started = performance.now();
  const each = Math.ceil(load.requests / load.connections);
  await Promise.all(
    Array.from({ length: load.connections }, async (_, n) => await runConnection(load, { n, each, status })),
  );
  return performance.now() - started;
}

interface Share {
  readonly n: number;
  readonly each: number;
  readonly status: number;
}

async function runConnection(load: Load, { n, each, status }: Share): Promise<void> {
  const { origin, paths, connections, perSecond, onAnswer } = load;
  const { hostname, port, host } = new URL(origin);
  const request = (done: number): string =>
    `GET ${paths[(n * each + done) % paths.length] ?? ''} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const pause = perSecond === undefined ? 0 : (1000 * connections) / perSecond;
  const begun = performance.now() + (pause * n) / connections;
  const first = `HTTP/1.1 ${status} `;
  await new Promise<void>((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    socket.setNoDelay(true);
    let done = 0;
    let held = Buffer.alloc(0);
    let due = 0; // when the request that is under way was or should have been sent, whichever came first
    const ask = (): void => {
      const now = performance.now();
      const planned = pause === 0 ? now : begun + done * pause;
      const send = (): void => {
        due = Math.min(planned, performance.now()); // timers may be early
        socket.write(request(done));
      };
      if (planned - now > 1) setTimeout(send, planned - now);
      else send();
    };
    socket.on('connect', ask);
    socket.on('error', reject);
    socket.on('data', (bytes) => {
      held = held.length === 0 ? bytes : Buffer.concat([held, bytes]);
      const end = held.indexOf('\r\n\r\n');
      if (end === -1) return;
      const head = held.toString('latin1', 0, end);
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1]);
      if (!head.startsWith(first) || Number.isNaN(length))
        return void socket.destroy(new Error(head.split('\r\n')[0]));
      if (held.length < end + 4 + length) return;
      held = Buffer.alloc(0);
      onAnswer?.(performance.now() - due);
      if (++done < each) return ask();
      socket.end();
      resolve();
    });
  });
}
