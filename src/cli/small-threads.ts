// Memory of threads. `bin/slipway` has V8 begin with room for 64 MB of garbage, for the thread that serves.
import { setFlagsFromString } from 'node:v8';

/** Threads that are started from now on begin as small as V8 makes them: each would keep that much garbage of its own. */
export function startThreadsSmall(): void {
  setFlagsFromString('--initial-old-space-size=0');
}
