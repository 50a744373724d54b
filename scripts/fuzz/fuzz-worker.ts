// One target in a thread of its own.
import { parentPort, workerData } from 'node:worker_threads';
import { fuzz, type FuzzOrder } from './fuzz-loop.ts';
import { findTarget } from './targets.ts';

const order = workerData as FuzzOrder;
const report = await fuzz(findTarget(order.name), order);
parentPort?.postMessage(report, []);
