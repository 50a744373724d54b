// Hands what changes to whoever watches. Listeners are called at once and must not block or throw.
import type { LiveMessage } from '../api/fleet-status.ts';
import { SlipwayError } from '../util/errors.ts';

export type LiveListener = (message: LiveMessage) => void;

/** Open pages of one fleet; more are refused rather than served slowly. */
const MAX_LISTENERS = 500;

export class LiveHub {
  readonly #listeners = new Set<LiveListener>();

  subscribe(listener: LiveListener): Disposable {
    if (this.#listeners.size >= MAX_LISTENERS) {
      throw new SlipwayError('unavailable', 'Too many live views are open.', {
        next: 'Close some, or try later.',
      });
    }
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  publish(messages: readonly LiveMessage[]): void {
    for (const message of messages) for (const listener of this.#listeners) listener(message);
  }
}
