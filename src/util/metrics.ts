// Counters, gauges and histograms, and the text in which Prometheus reads them (exposition format 0.0.4).

export type Labels = Readonly<Record<string, string>>;

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  samples(): Iterable<Sample>;
}

export interface Sample {
  /** After the metric's name: `_bucket`, `_sum`, `_count`, or nothing. */
  readonly suffix?: string;
  readonly labels: Labels;
  readonly value: number;
}

/** Grows only. One number for each set of labels; callers bound how many sets there are. */
export class Counter implements Metric {
  readonly type = 'counter';
  readonly name: string;
  readonly help: string;
  readonly #values = new Map<string, { readonly labels: Labels; value: number }>();

  constructor(name: string, help: string) {
    this.name = name;
    this.help = help;
  }

  add(labels: Labels, value = 1): void {
    this.at(labels).value += value;
  }

  /** The number itself, for those who count often. */
  at(labels: Labels): { value: number } {
    const key = keyOf(labels);
    const known = this.#values.get(key);
    if (known) return known;
    const entry = { labels, value: 0 };
    this.#values.set(key, entry);
    return entry;
  }

  samples(): Iterable<Sample> {
    return this.#values.values();
  }
}

interface Series {
  readonly labels: Labels;
  readonly counts: number[];
  sum: number;
}

/** How long or how large: counts by upper bounds. */
export class Histogram implements Metric {
  readonly type = 'histogram';
  readonly name: string;
  readonly help: string;
  readonly #bounds: readonly number[];
  readonly #series = new Map<string, Series>();

  /** `bounds` ascend; everything above the last one counts as `+Inf`. */
  constructor(name: string, help: string, bounds: readonly number[]) {
    this.name = name;
    this.help = help;
    this.#bounds = bounds;
  }

  observe(labels: Labels, value: number): void {
    this.at(labels)(value);
  }

  /** What observes for these labels, for those who do so often. */
  at(labels: Labels): (value: number) => void {
    const key = keyOf(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { labels, counts: Array.from({ length: this.#bounds.length + 1 }, () => 0), sum: 0 };
      this.#series.set(key, series);
    }
    return this.#observe.bind(this, series);
  }

  #observe(series: Series, value: number): void {
    let bucket = 0;
    while (bucket < this.#bounds.length && value > (this.#bounds[bucket] ?? 0)) bucket++;
    series.counts[bucket] = (series.counts[bucket] ?? 0) + 1;
    series.sum += value;
  }

  *samples(): Iterable<Sample> {
    for (const { labels, counts, sum } of this.#series.values()) {
      let total = 0;
      for (const [index, count] of counts.entries()) {
        total += count;
        const le = index < this.#bounds.length ? String(this.#bounds[index]) : '+Inf';
        yield { suffix: '_bucket', labels: { ...labels, le }, value: total };
      }
      yield { suffix: '_sum', labels, value: sum };
      yield { suffix: '_count', labels, value: total };
    }
  }
}

/** A gauge or counter whose numbers are known only when somebody asks. */
export function snapshot(
  metric: Pick<Metric, 'name' | 'help'> & { readonly type?: 'counter' | 'gauge' },
  samples: readonly Sample[],
): Metric {
  return { type: 'gauge', ...metric, samples: () => samples };
}

export function formatMetrics(metrics: readonly Metric[]): string {
  return metrics.map(formatMetric).join('');
}

function formatMetric(metric: Metric): string {
  const lines = [`# HELP ${metric.name} ${escapeHelp(metric.help)}`, `# TYPE ${metric.name} ${metric.type}`];
  for (const { suffix = '', labels, value } of metric.samples())
    lines.push(`${metric.name}${suffix}${formatLabels(labels)} ${formatValue(value)}`);
  return `${lines.join('\n')}\n`;
}

function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function formatValue(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  return String(value);
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}

function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function keyOf(labels: Labels): string {
  let key = '';
  for (const name in labels) key += `${labels[name] ?? ''}\n`;
  return key;
}
