// Follows one `nix-store --realise` through its internal-json log: log lines attributed to their derivation, a bounded
// tail of each, and which derivations failed. Nix' events carry no success or failure : a
// failed derivation is named only in an error message, and validity of the outputs is for the caller to ask.
import { stripVTControlCharacters } from 'node:util';
import { parseLogLine, type ResultType } from '../nix/log-event.ts';

export interface BuildLogSink {
  /** A line of a derivation's build log, or one of Nix itself (no derivation). */
  readonly onLine: (line: string, drvPath: string | undefined) => void;
  readonly onStart: (drvPath: string) => void;
}

/** Lines kept of each log, and logs kept: what a failure report needs, whatever the build prints. */
const TAIL_LINES = 40;
const TAILS = 256;

export class BuildLog {
  readonly #sink: BuildLogSink;
  readonly #builds = new Map<string, string>();
  readonly #tails = new Map<string, string[]>();
  readonly #failures = new Map<string, string>();

  constructor(sink: BuildLogSink) {
    this.#sink = sink;
  }

  /** Derivations that failed by themselves (not through a dependency), with Nix' reason in one line. */
  get failures(): ReadonlyMap<string, string> {
    return this.#failures;
  }

  tail(drvPath: string): readonly string[] {
    return this.#tails.get(drvPath) ?? [];
  }

  /** Takes one line of Nix' stderr. */
  readonly take = (line: string): void => {
    const event = parseLogLine(line);
    if (event.kind === 'text') this.#say(event.text);
    else if (event.kind === 'message') this.#message(event.level, event.text);
    else if (event.kind === 'stop') this.#builds.delete(event.id);
    else if (event.kind === 'result') this.#result(event.id, event.type, event.fields[0]);
    else if (event.type === 'build') this.#begin(event.id, event.fields[0]);
  };

  #begin(id: string, drvPath: unknown): void {
    if (typeof drvPath !== 'string') return;
    this.#builds.set(id, drvPath);
    this.#sink.onStart(drvPath);
  }

  #result(id: string, type: ResultType, text: unknown): void {
    if (type !== 'build-log-line' && type !== 'post-build-log-line') return;
    const drvPath = this.#builds.get(id);
    const line = clean(String(text));
    if (drvPath !== undefined) this.#keep(drvPath, line);
    this.#sink.onLine(line, drvPath);
  }

  #message(level: number, message: string): void {
    const text = message
      .split('\n')
      .map(clean)
      .join('\n')
      .replace(/^error: /, '');
    if (level === 0) this.#failed(text);
    // What is built gets its root afterwards, all at once: see build-hosts.ts.
    if (text.includes('--add-root')) return;
    if (level <= 1) this.#sink.onLine(text.split('\n', 1)[0] ?? '', undefined);
  }

  #failed(text: string): void {
    const [first = ''] = text.split('; last', 1);
    if (/dependenc(y|ies)/.test(first) || first.startsWith('build of ')) return;
    const [, drvPath] = /'(\/nix\/store\/[^']+\.drv)'/.exec(text) ?? [];
    if (drvPath === undefined || this.#failures.has(drvPath)) return;
    const reason = text.split(/\n|; last \d+ log lines/, 1)[0] ?? '';
    const why = /Reason: (.*)/.exec(text)?.[1];
    this.#failures.set(
      drvPath,
      why ??
        reason
          .replace(`builder for '${drvPath}'`, 'the builder')
          .replace(`'${drvPath}'`, derivationName(drvPath)),
    );
  }

  #keep(drvPath: string, line: string): void {
    const tail = this.#tails.get(drvPath) ?? [];
    tail.push(line);
    if (tail.length > TAIL_LINES) tail.shift();
    this.#tails.delete(drvPath); // re-inserted: the map's order is then least recently written first
    this.#tails.set(drvPath, tail);
    const oldest = this.#tails.keys().next().value;
    if (this.#tails.size > TAILS && oldest !== undefined) this.#tails.delete(oldest);
  }

  #say(line: string): void {
    const text = clean(line).trim();
    if (text !== '') this.#sink.onLine(text, undefined);
  }
}

/** Builds print what they like; control characters would reach terminals, databases and dashboards. */
function clean(line: string): string {
  return stripVTControlCharacters(line).replaceAll(/[^\P{Cc}\t]/gu, '');
}

/** `/nix/store/<hash>-hello-1.0.drv` as a person says it: `hello-1.0`. */
export function derivationName(drvPath: string): string {
  return drvPath.replace(/^\/nix\/store\/[0-9a-z]{32}-/, '').replace(/\.drv$/, '');
}
