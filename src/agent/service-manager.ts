// What systemd is told of the agent (sd_notify): READY=1 when it works, STATUS= for `systemctl status`, WATCHDOG=1 while
// it gets on. Node cannot open the datagram socket that NOTIFY_SOCKET names, so `systemd-notify` says it; it speaks for
// the process that called it, so NotifyAccess=main is enough. Without NOTIFY_SOCKET nothing is said and nothing started.
import { exec } from '../effects/exec.ts';
import { messageOf } from '../util/errors.ts';

export interface ServiceManager extends Disposable {
  readonly ready: () => void;
  /** One line; the newest counts. */
  readonly status: (line: string) => void;
}

export interface ServiceManagerOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether the agent gets on: a step that takes longer than its own limits allow does not. */
  readonly isAlive: () => boolean;
  /** Hears once that systemd could not be told. */
  readonly onError: (message: string) => void;
}

const NOTIFY_TIMEOUT_MS = 10_000;
const MAX_STATUS = 300;

export function openServiceManager(options: ServiceManagerOptions): ServiceManager {
  const { NOTIFY_SOCKET } = options.env;
  if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') {
    return { ready: sayNothing, status: sayNothing, [Symbol.dispose]: sayNothing };
  }
  const line = new NotifyLine(NOTIFY_SOCKET, options.onError);
  const everyMs = watchdogInterval(options.env);
  const beat = (): void => (options.isAlive() ? line.say('WATCHDOG=1') : undefined);
  const timer = everyMs === undefined ? undefined : setInterval(beat, everyMs);
  timer?.unref();
  return {
    ready: () => line.say('READY=1'),
    status: (text) => line.say(`STATUS=${oneLine(text)}`),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function sayNothing(): void {}

/** Half of the time that systemd waits; undefined when it waits for nothing from this process. */
export function watchdogInterval(
  env: ServiceManagerOptions['env'],
  pid: number = process.pid,
): number | undefined {
  const { WATCHDOG_USEC, WATCHDOG_PID } = env;
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== '' && Number(WATCHDOG_PID) !== pid) return undefined;
  const micros = Number(WATCHDOG_USEC ?? '');
  return Number.isFinite(micros) && micros > 0 ? Math.max(500, micros / 2000) : undefined;
}

/** One message at a time; those that wait meanwhile go out together, the newest of a kind. */
class NotifyLine {
  readonly #socket: string;
  readonly #onError: (message: string) => void;
  readonly #waiting = new Map<string, string>();
  #busy = false;
  #failed = false;

  constructor(socket: string, onError: (message: string) => void) {
    this.#socket = socket;
    this.#onError = onError;
  }

  say(assignment: string): void {
    this.#waiting.set(assignment.split('=', 1)[0] ?? '', assignment);
    if (!this.#busy) void this.#drain();
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.size > 0) {
      const words = [...this.#waiting.values()];
      this.#waiting.clear();
      await this.#send(words);
    }
    this.#busy = false;
  }

  async #send(words: readonly string[]): Promise<void> {
    try {
      const env = { NOTIFY_SOCKET: this.#socket };
      const { code, stderr } = await exec(['systemd-notify', ...words], {
        env,
        timeoutMs: NOTIFY_TIMEOUT_MS,
      });
      if (code !== 0) throw new Error(stderr.trim());
    } catch (error) {
      if (!this.#failed) this.#onError(`systemd could not be told how the agent is: ${messageOf(error)}`);
      this.#failed = true;
    }
  }
}

function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, MAX_STATUS);
}
