// One request to a cache of a caller who may make it: what the doors of reading and writing work on.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ReadAccess, WriteAccess } from './cache-access.ts';
import type { CacheRoute } from './cache-route.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly pace: UploadPace;
}

/** How slowly an upload may come before it is refused. */
export interface UploadPace {
  /** Milliseconds without a byte. */
  readonly patienceMs: number;
  /** Bytes a second, on average over that time. */
  readonly slowest: number;
}

export interface CacheReadRequest extends Exchange, ReadAccess {
  readonly route: CacheRoute;
}

export interface CacheWriteRequest extends Exchange, WriteAccess {
  readonly route: CacheRoute;
}
