// `make test` holds one test of each kind of fault; `make test-thorough` also their variations, which take minutes.
import { test } from 'node:test';

/** Whether this is a thorough run. */
export const thorough = process.env['SLIPWAY_THOROUGH'] === '1';

/** A test that only a thorough run has. */
export function variation(name: string, run: () => Promise<void>): void {
  if (thorough) test(name, run);
}
