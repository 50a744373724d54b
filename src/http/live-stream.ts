// GET /events as a byte stream (https://html.spec.whatwg.org/multipage/server-sent-events.html): a snapshot, what was
// missed since Last-Event-ID, then what happens. A reader that falls behind is cut; it comes back with its last id.
import type { LiveMessage } from '../api/fleet-status.ts';
import type { Fleet } from '../fleet/fleet.ts';

export interface LiveOptions {
  /** Event id after which to replay; undefined: only what comes. */
  readonly after: number | undefined;
  readonly heartbeatMs: number;
  /** Ends every stream when the server closes. */
  readonly closing: AbortSignal;
}

/** Messages that wait for one slow reader. */
const MAX_WAITING = 2_000;
/** Who was away for longer than this loads the log anew instead. */
const MAX_REPLAY = 5_000;
const REPLAY_PAGE = 250;

export function openLiveStream(fleet: Fleet, options: LiveOptions): ReadableStream<Uint8Array> {
  const gone = new AbortController();
  const signal = AbortSignal.any([gone.signal, options.closing]);
  const texts = liveTexts(fleet, options, signal);
  return new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const { done, value } = await texts.next();
        if (done === true) controller.close();
        else controller.enqueue(Buffer.from(value));
      },
      cancel: async () => {
        gone.abort();
        await texts.return();
      },
    },
    { highWaterMark: 0 },
  );
}

async function* liveTexts(
  fleet: Fleet,
  options: LiveOptions,
  signal: AbortSignal,
): AsyncGenerator<string, void, undefined> {
  using inbox = new Inbox(fleet, signal);
  const snapshot = await fleet.readStatus();
  yield `retry: 2000\n\n${formatMessage({ name: 'snapshot', data: snapshot })}`;
  let last = options.after ?? snapshot.lastEvent;
  if (snapshot.lastEvent - last > MAX_REPLAY) last = snapshot.lastEvent;
  for (;;) {
    const missed = last < snapshot.lastEvent ? await fleet.listEventsAfter(last, REPLAY_PAGE) : [];
    if (missed.length === 0) break;
    last = missed.at(-1)?.id ?? last;
    yield missed.map((data) => formatMessage({ name: 'event', data })).join('');
  }
  while (!signal.aborted && !inbox.overflowed) {
    const messages = await inbox.take(options.heartbeatMs);
    const fresh = messages.filter((message) => message.name !== 'event' || message.data.id > last);
    yield fresh.length === 0 ? ': still here\n\n' : fresh.map(formatMessage).join('');
  }
}

/** One SSE message; only stored events have an id, so that Last-Event-ID always names one of them. */
export function formatMessage(message: LiveMessage): string {
  const id = message.name === 'event' ? `id: ${message.data.id}\n` : '';
  return `${id}event: ${message.name}\ndata: ${JSON.stringify(message.data)}\n\n`;
}

/** What waits for one reader. */
class Inbox implements Disposable {
  overflowed = false;
  readonly #subscription: Disposable;
  readonly #signal: AbortSignal;
  #waiting: LiveMessage[] = [];
  #wake: (() => void) | undefined;

  constructor(fleet: Fleet, signal: AbortSignal) {
    this.#signal = signal;
    this.#subscription = fleet.live.subscribe((message) => this.#add(message));
    signal.addEventListener('abort', this.#rouse, { once: true });
  }

  /** All that waits; empty after `ms` without anything, or when the stream is to end. */
  async take(ms: number): Promise<LiveMessage[]> {
    if (this.#waiting.length === 0 && !this.#signal.aborted) {
      const timer = setTimeout(this.#rouse, ms);
      await new Promise<void>((resolve) => (this.#wake = resolve));
      clearTimeout(timer);
    }
    const taken = this.#waiting;
    this.#waiting = [];
    return taken;
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]();
    this.#signal.removeEventListener('abort', this.#rouse);
  }

  #add(message: LiveMessage): void {
    if (this.#waiting.length >= MAX_WAITING) this.overflowed = true;
    else this.#waiting.push(message);
    this.#rouse();
  }

  readonly #rouse = (): void => {
    this.#wake?.();
    this.#wake = undefined;
  };
}
