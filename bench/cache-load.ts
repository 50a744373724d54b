// Asks a server for small answers as fast as it gives them, over kept connections, with next to no work for each.
import { connect } from 'node:net';

export interface Load {
  readonly origin: string;
  readonly paths: readonly string[];
  readonly requests: number;
  readonly connections: number;
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

async function runConnection({ origin, paths }: Load, { n, each, status }: Share): Promise<void> {
  const { hostname, port, host } = new URL(origin);
  const requests = paths.map((path) => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`));
  const first = `HTTP/1.1 ${status} `;
  await new Promise<void>((resolve, reject) => {
    const socket = connect(Number(port), hostname);
    socket.setNoDelay(true);
    let done = 0;
    let held = Buffer.alloc(0);
    const ask = (): void => void socket.write(requests[(n * each + done) % requests.length] ?? '');
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
      if (++done < each) return ask();
      socket.end();
      resolve();
    });
  });
}
