// One request to a cache of a caller who may make it: what the doors of reading and writing work on.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ReadAccess, WriteAccess } from './cache-access.ts';
import type { CacheRoute } from './cache-route.ts';

export interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export interface CacheReadRequest extends Exchange, ReadAccess {
  readonly route: CacheRoute;
}

export interface CacheWriteRequest extends Exchange, WriteAccess {
  readonly route: CacheRoute;
}
