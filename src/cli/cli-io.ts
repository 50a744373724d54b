// What a command may touch of its terminal, gathered once, so that a test can hand in its own.

export interface CliIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Whether stdout is a terminal: only then is anything redrawn in place. */
  readonly terminal: boolean;
  readonly color: boolean;
  /** Size of the terminal behind stderr; undefined when there is none that can be drawn on. */
  readonly screen?: () => { readonly columns: number; readonly rows: number } | undefined;
  /** Fires on the first Ctrl-C or TERM; a second one ends the process at once. */
  readonly signal: AbortSignal;
}

/** The real terminal. Colour follows NO_COLOR, FORCE_COLOR, TERM=dumb and whether stdout is a terminal. */
export function processIo(): CliIo {
  const terminal = process.stdout.isTTY;
  process.stdout.on('error', ignoreBrokenPipe);
  process.stderr.on('error', ignoreBrokenPipe);
  return {
    stdout: (text) => void process.stdout.write(text),
    stderr: (text) => void process.stderr.write(text),
    env: process.env,
    cwd: process.cwd(),
    terminal,
    color: wantsColor(process.env, terminal),
    screen: () => screenOf(process.stderr, process.env),
    signal: interruptSignal(),
  };
}

/** Whoever read has read enough (`| head`). What the command does goes on to its end: a deploy is not left half-way for that. */
function ignoreBrokenPipe(error: Error): void {
  if (!('code' in error) || error.code !== 'EPIPE') throw error;
}

function screenOf(
  { isTTY, columns, rows }: NodeJS.WriteStream,
  env: Readonly<Record<string, string | undefined>>,
): { readonly columns: number; readonly rows: number } | undefined {
  if (!isTTY || env['TERM'] === 'dumb' || env['CI'] !== undefined) return undefined;
  return { columns: columns || 80, rows: rows || 24 };
}

export function wantsColor(env: Readonly<Record<string, string | undefined>>, terminal: boolean): boolean {
  if ((env['NO_COLOR'] ?? '') !== '') return false;
  if ((env['FORCE_COLOR'] ?? '') !== '') return env['FORCE_COLOR'] !== '0';
  return terminal && env['TERM'] !== 'dumb';
}

function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143);
    controller.abort();
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  return controller.signal;
}
