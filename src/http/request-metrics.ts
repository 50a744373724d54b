// Counts what the cache's data plane answers: by kind and outcome, bytes both ways, how long it took.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Counter, Histogram, type Metric } from '../util/metrics.ts';
import type { CacheHandler } from './server.ts';

/** Seconds: from a narinfo out of memory to a NAR of gigabytes. */
const DURATION_BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10, 60, 300];

export class RequestMetrics {
  readonly #requests = new Counter(
    'slipway_cache_requests_total',
    'Requests to caches, by kind, method and outcome.',
  );
  readonly #bytes = new Counter(
    'slipway_cache_bytes_total',
    'Bytes that requests to caches moved, headers included.',
  );
  readonly #seconds = new Histogram(
    'slipway_cache_request_duration_seconds',
    'Time from the request to the end of the answer.',
    DURATION_BOUNDS,
  );

  readonly #in = this.#bytes.at({ direction: 'in' });
  readonly #out = this.#bytes.at({ direction: 'out' });
  readonly #moved = new WeakMap<Socket, { read: number; written: number }>();
  /** By kind, method and outcome: nearly all requests are of a few sorts. */
  readonly #sorts = new Map<string, Sort>();

  get metrics(): readonly Metric[] {
    return [this.#requests, this.#bytes, this.#seconds];
  }

  /** The handler, counted. */
  metered(handler: CacheHandler): CacheHandler {
    return (request, response) => {
      const start = performance.now();
      const { socket } = request;
      const known = handler(request, response);
      if (known === false) return false;
      if (known === true) {
        this.#count({ kind: 'narinfo', start }, request, response);
        this.#countBytes(socket);
        return true;
      }
      return known.then((answered) => {
        if (!answered) return false;
        this.#count({ kind: kindOf(request.url ?? ''), start }, request, response);
        this.#countBytes(socket);
        return true;
      });
    };
  }

  #count(
    { kind, start }: { readonly kind: string; readonly start: number },
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const method = methodOf(request);
    const outcome = outcomeOf(request, response);
    const name = `${kind} ${method} ${outcome}`;
    let sort = this.#sorts.get(name);
    if (sort === undefined) {
      sort = { requests: this.#requests.at({ kind, method, outcome }), observe: this.#seconds.at({ kind }) };
      this.#sorts.set(name, sort);
    }
    sort.requests.value++;
    sort.observe((performance.now() - start) / 1000);
  }

  /** What a connection moved since the request before: the first bytes of a body come with the headers. */
  #countBytes(socket: Socket): void {
    let moved = this.#moved.get(socket);
    if (moved === undefined) {
      moved = { read: 0, written: 0 };
      this.#moved.set(socket, moved);
    }
    const { bytesRead, bytesWritten } = socket;
    this.#in.value += bytesRead - moved.read;
    this.#out.value += bytesWritten - moved.written;
    moved.read = bytesRead;
    moved.written = bytesWritten;
  }
}

interface Sort {
  readonly requests: { value: number };
  readonly observe: (seconds: number) => void;
}

function kindOf(url: string): string {
  const path = url.split('?', 1)[0] ?? '';
  if (path.endsWith('.narinfo')) return 'narinfo';
  if (path.endsWith('/nix-cache-info')) return 'cache-info';
  if (path.includes('/nar/')) return 'nar';
  if (path.includes('/log/')) return 'log';
  return path.startsWith('/_api/') ? 'api' : 'other';
}

function methodOf({ method }: IncomingMessage): string {
  return method === 'GET' || method === 'HEAD' || method === 'PUT' || method === 'POST' ? method : 'other';
}

/** For reading, whether it was there. For writing, whether it was taken. */
function outcomeOf(request: IncomingMessage, response: ServerResponse): string {
  const status = response.statusCode;
  if (!response.writableFinished && response.destroyed) return 'cut';
  if (status >= 500) return 'failed';
  if (status === 404) return 'miss';
  if (status === 409) return 'conflict';
  if (status === 401 || status === 403) return 'denied';
  if (status >= 400) return 'refused';
  return request.method === 'PUT' || request.method === 'POST' ? 'taken' : 'hit';
}
