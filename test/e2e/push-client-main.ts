// A client that pushes, in a process of its own, for tests that kill it: `node push-client-main.ts '<JSON of PushOptions>'`.
import { pushClosure, type PushOptions } from '../../src/client/push-closure.ts';

await pushClosure(JSON.parse(process.argv[2] ?? '{}') as PushOptions);
