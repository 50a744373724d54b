// Answers of others, remembered for as long as each may be believed; whoever asks while a question is under way gets its
// answer. Bounded by what the answers weigh.
import { LRUCache } from 'lru-cache';

/** What was found, and for how many ms that is believed. */
export interface Answer<T> {
  readonly found: T | undefined;
  readonly ttl: number;
}

const ABSENT = Symbol('absent');
const ABSENT_BYTES = 150;

// Upstreams gain files at any time, and lose few. A sure "no" is believed for a minute; one that somebody could not
// answer, for seconds.
const PRESENT_TTL_MS = 600_000;
const ABSENT_TTL_MS = 60_000;
const UNSURE_TTL_MS = 3_000;

export interface RememberedAnswersParts<T> {
  readonly maxBytes: number;
  /** Memory that an answer holds. */
  readonly bytesOf: (found: T) => number;
  /** Called for each question that waits for another's answer. */
  readonly onShared?: () => void;
}

export class RememberedAnswers<T extends object> {
  readonly #parts: RememberedAnswersParts<T>;
  readonly #asking = new Map<string, Promise<T | undefined>>();
  readonly #known: LRUCache<string, T | typeof ABSENT>;

  constructor(parts: RememberedAnswersParts<T>) {
    this.#parts = parts;
    this.#known = new LRUCache({
      maxSize: parts.maxBytes,
      sizeCalculation: (entry) => (entry === ABSENT ? ABSENT_BYTES : parts.bytesOf(entry)),
    });
  }

  /** What memory says; `undefined` when somebody would have to be asked. */
  findKnown(key: string): T | 'absent' | undefined {
    const known = this.#known.get(key);
    return known === ABSENT ? 'absent' : known;
  }

  async find(key: string, ask: () => Promise<Answer<T>>): Promise<T | undefined> {
    const known = this.#known.get(key);
    if (known !== undefined) return known === ABSENT ? undefined : known;
    const asking = this.#asking.get(key);
    if (asking) {
      this.#parts.onShared?.();
      return await asking;
    }
    const answer = this.#ask(key, ask).finally(() => this.#asking.delete(key));
    this.#asking.set(key, answer);
    return await answer;
  }

  forget(key: string): void {
    this.#known.delete(key);
  }

  /** Until no question is under way. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#asking.values());
  }

  async #ask(key: string, ask: () => Promise<Answer<T>>): Promise<T | undefined> {
    const { found, ttl } = await ask();
    this.#known.set(key, found ?? ABSENT, { ttl });
    return found;
  }
}

/**
 * Asks all at once; the first that has it is believed. Each rejects when it cannot tell, and never later than its signal
 * says: nothing here does.
 */
export async function firstAnswer<S, T>(
  sources: readonly S[],
  ask: (source: S) => Promise<T | undefined>,
): Promise<Answer<T>> {
  let sure = true;
  const asked = sources.map(async (source) => {
    const found = await ask(source).catch((error: unknown) => {
      sure = false;
      throw error;
    });
    if (found === undefined) throw NOT_THERE;
    return found;
  });
  try {
    return { found: await Promise.any(asked), ttl: PRESENT_TTL_MS };
  } catch {
    return { found: undefined, ttl: sure ? ABSENT_TTL_MS : UNSURE_TTL_MS };
  }
}

const NOT_THERE = new Error('not there');
