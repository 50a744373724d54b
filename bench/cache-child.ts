// A process of cache-server-main.ts, as bench/cache.ts uses it.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

export interface ServerChild extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  readonly pid: number;
  /** CPU time in ms and memory in bytes until now. */
  usage(): Promise<{ readonly cpuMs: number; readonly rssBytes: number }>;
}

interface Ready {
  readonly url: string;
  readonly token: string;
}

export async function startServer(kind: 'slipway' | 'bare', argument: string): Promise<ServerChild> {
  const child = fork(new URL('cache-server-main.ts', import.meta.url), [kind, argument]);
  const [ready] = (await once(child, 'message')) as [Ready];
  return {
    url: ready.url,
    token: ready.token,
    pid: child.pid ?? 0,
    usage: async () => {
      child.send('usage');
      const [usage] = (await once(child, 'message')) as [{ cpuMs: number; rssBytes: number }];
      return usage;
    },
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}

const TICK_MS = 10; // USER_HZ is 100 on Linux

/** CPU time of the children that this process has waited for, in ms. */
export function cpuOfChildren(): number {
  const fields = readFileSync('/proc/self/stat', 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[13]) + Number(fields[14])) * TICK_MS;
}

/** CPU time of any process, in ms, as the kernel counts it. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
