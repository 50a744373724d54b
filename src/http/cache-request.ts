// One request to a cache of a caller who may make it: what the doors of reading and writing work on.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Caller } from '../auth/caller.ts';
import type { Cache } from '../cache/cache-registry.ts';
import type { CacheRoute } from './cache-route.ts';

export interface CacheRequest {
  readonly cache: Cache;
  readonly route: CacheRoute;
  readonly caller: Caller | undefined;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}
