// A pause that can be cut short: by a request, or by the end of the agent.

export class Wakeup {
  #wake: (() => void) | undefined;
  #pending = false;

  /** Ends the present pause, or the next one before it begins. */
  wake(): void {
    this.#pending = true;
    this.#wake?.();
  }

  /** Waits up to `ms`; an abort ends the wait without an error. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#pending && !signal.aborted) await this.#pause(ms, signal);
    this.#pending = false;
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal.addEventListener('abort', end, { once: true });
      this.#wake = end;
    });
  }
}
