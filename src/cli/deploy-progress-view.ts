// How a deploy is shown while it goes, on stderr: on a terminal one line a host, redrawn in place; else a line for each
// step. With --json nothing, or each event as a line of stdout.
import type { EmitRunEvent, RunEventBody } from '../api/run-events.ts';
import type { CliIo } from './cli-io.ts';
import { type Board, describeLeft, emptyBoard, renderBoard, updateBoard } from './deploy-board.ts';
import { formatDuration, makeStyle, stripControl } from './style.ts';

export interface ShowOptions {
  readonly json: boolean;
  /** With `json`: events too. */
  readonly events?: boolean;
  readonly hosts?: readonly string[];
}

export interface ProgressView extends Disposable {
  readonly emit: EmitRunEvent;
  /** After an interruption: what goes on where. */
  readonly tellLeft: () => void;
}

const REDRAW_MS = 100;

export function openProgressView(io: CliIo, options: ShowOptions): ProgressView {
  if (options.json) return new JsonView(io, options.events === true);
  const screen = io.screen?.();
  return screen === undefined ? new LineView(io, options.hosts ?? []) : new LiveView(io, options.hosts ?? []);
}

class JsonView implements ProgressView {
  readonly #io: CliIo;
  readonly #events: boolean;

  constructor(io: CliIo, events: boolean) {
    this.#io = io;
    this.#events = events;
  }

  readonly emit = (event: RunEventBody): void => {
    if (this.#events) this.#io.stdout(`${JSON.stringify({ ...event, at: new Date().toISOString() })}\n`);
  };

  tellLeft(): void {
    // the last line of JSON says that it was cancelled
  }

  [Symbol.dispose](): void {
    // nothing is held
  }
}

/** Keeps the board and says what an interruption means; how the board is shown is for the two views. */
class BoardView implements Disposable {
  protected readonly io: CliIo;
  protected board: Board;
  protected readonly started = performance.now();
  readonly #interrupted = (): void => this.say(INTERRUPTED);

  constructor(io: CliIo, hosts: readonly string[]) {
    this.io = io;
    this.board = emptyBoard(hosts);
    io.signal.addEventListener('abort', this.#interrupted, { once: true });
  }

  protected say(line: string): void {
    this.io.stderr(`${line}\n`);
  }

  tellLeft(): void {
    for (const line of describeLeft(this.board)) this.say(stripControl(line));
  }

  [Symbol.dispose](): void {
    this.io.signal.removeEventListener('abort', this.#interrupted);
  }
}

const INTERRUPTED =
  'Interrupted: the hosts at work are told to go back. Ctrl-C again leaves them to themselves.';

class LineView extends BoardView implements ProgressView {
  readonly emit = (event: RunEventBody): void => {
    this.board = updateBoard(this.board, event, performance.now());
    const style = makeStyle(this.io.color);
    if (event.kind === 'host') this.#line(event.host, [event.phase, event.note].filter(Boolean).join(': '));
    if (event.kind === 'log') this.#line(event.host ?? 'rollout', style.dim(stripControl(event.line)));
  };

  #line(host: string, text: string): void {
    const style = makeStyle(this.io.color);
    const at = style.dim(formatDuration(performance.now() - this.started).padStart(8));
    this.say(`${at}  ${style.bold(host)}  ${text}`);
  }
}

class LiveView extends BoardView implements ProgressView {
  #drawn = 0;
  #over = false;
  readonly #timer = setInterval(() => this.#draw(), REDRAW_MS).unref();

  readonly emit = (event: RunEventBody): void => {
    this.board = updateBoard(this.board, event, performance.now());
    // What belongs to no host, such as a hook of the rollout, is said above the board.
    if (event.kind === 'log' && event.host === undefined) this.say(stripControl(event.line));
  };

  protected override say(line: string): void {
    if (this.#over) return super.say(line);
    this.#wipe();
    super.say(line);
    this.#draw();
  }

  override [Symbol.dispose](): void {
    if (this.#over) return;
    super[Symbol.dispose]();
    clearInterval(this.#timer);
    this.#draw();
    this.#over = true;
  }

  #wipe(): void {
    if (this.#drawn > 0) this.io.stderr(`\r\u001B[${this.#drawn}A\u001B[J`);
    this.#drawn = 0;
  }

  #draw(): void {
    const screen = this.io.screen?.() ?? { columns: 80, rows: 24 };
    const look = { ...screen, now: performance.now(), style: makeStyle(this.io.color) };
    const lines = renderBoard(this.board, look);
    const up = this.#drawn > 0 ? `\r\u001B[${this.#drawn}A` : '\r';
    // Each line is cleared to its end, then what an earlier, longer board left below: no flicker.
    this.io.stderr(`${up}${lines.map((line) => `${line}\u001B[K\n`).join('')}\u001B[J`);
    this.#drawn = lines.length;
  }
}
