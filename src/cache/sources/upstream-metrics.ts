// What is counted of upstreams: questions and their outcome, time, bytes, and whether they are asked at all.
import { Counter, Histogram, type Labels, type Metric, type Sample } from '../../util/metrics.ts';
import { breakerPosition, type BreakerState } from './circuit-breaker.ts';

/** Seconds: a narinfo around the corner to a NAR of gigabytes. */
const DURATION_BOUNDS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 10, 60, 600];

/**
 * `hit`, `miss`: it has the path, or not. `error`: no answer, or a failure of its own. `refused`: its answer is not signed
 * by a key that counts, or is not what was signed. `skipped`: it was not asked, because it failed lately.
 */
export type UpstreamOutcome = 'hit' | 'miss' | 'error' | 'refused' | 'skipped';

/** What was asked for. `debuginfo` is the link to debug information and whether the NAR behind it is there. */
export type QuestionKind = 'narinfo' | 'nar' | 'realisation' | 'debuginfo';

export interface WatchedUpstream {
  readonly name: string;
  readonly breaker: BreakerState;
}

export class UpstreamMetrics {
  readonly #requests = new Counter(
    'slipway_upstream_requests_total',
    'Questions to upstreams, by what was asked for and outcome.',
  );
  readonly #seconds = new Histogram(
    'slipway_upstream_request_duration_seconds',
    'Time until an upstream had answered; of NARs, until they were whole.',
    DURATION_BOUNDS,
  );
  readonly #bytes = new Counter('slipway_upstream_bytes_total', 'Bytes of NARs that upstreams sent.');
  readonly #shared = new Counter(
    'slipway_upstream_shared_total',
    'Requests of clients that were served by a fetch which another had begun.',
  );
  readonly #watched: () => Iterable<WatchedUpstream>;

  constructor(watched: () => Iterable<WatchedUpstream>) {
    this.#watched = watched;
  }

  get metrics(): readonly Metric[] {
    return [this.#requests, this.#seconds, this.#bytes, this.#shared, this.#breakers()];
  }

  asked(upstream: string, kind: QuestionKind, outcome: UpstreamOutcome, ms?: number): void {
    this.#requests.add({ upstream, kind, outcome });
    if (ms !== undefined) this.#seconds.observe({ upstream, kind }, ms / 1000);
  }

  received(upstream: string, bytes: number): void {
    this.#bytes.add({ upstream }, bytes);
  }

  shared(kind: QuestionKind): void {
    this.#shared.add({ kind });
  }

  #breakers(): Metric {
    return {
      name: 'slipway_upstream_up',
      help: 'Whether an upstream is asked: 0 while it is left alone after failures.',
      type: 'gauge',
      samples: () => this.#positions(),
    };
  }

  *#positions(): Iterable<Sample> {
    const now = performance.now();
    for (const { name, breaker } of this.#watched()) {
      const labels: Labels = { upstream: name };
      yield { labels, value: breakerPosition(breaker, now) === 'closed' ? 1 : 0 };
    }
  }
}
