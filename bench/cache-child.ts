// The servers that the benches measure, each in a process of its own: `slipway serve` as it is, and bare node:http.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';

const SLIPWAY = path.join(import.meta.dirname, '../bin/slipway');
const BARE = path.join(import.meta.dirname, 'bare-server-main.ts');

export interface ServerChild extends AsyncDisposable {
  readonly url: string;
  /** May write to the cache `main`, which everybody may read. */
  readonly token: string;
  readonly pid: number;
  /** CPU time in ms and memory in bytes until now, as the kernel counts them. */
  usage(): Promise<{ readonly cpuMs: number; readonly rssBytes: number }>;
}

/** `slipway`: a server over the data folder `argument`. `bare`: one that answers all requests with `argument`. */
export async function startServer(kind: 'slipway' | 'bare', argument: string): Promise<ServerChild> {
  if (kind === 'bare') return serverOf(...(await start([process.execPath, BARE, argument])), '');
  await mkdir(argument, { recursive: true, mode: 0o700 });
  const flags = ['--data', argument, '--listen', '127.0.0.1:0', '--public-cache', '--json'];
  const [child, url] = await start([SLIPWAY, 'serve', ...flags]);
  return serverOf(child, url, readFileSync(path.join(argument, 'keys', 'admin.token'), 'utf8').trim());
}

async function start([program, ...argv]: readonly [string, ...string[]]): Promise<[ChildProcess, string]> {
  const child = spawn(program, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  child.stdout.resume();
  const { publicUrl } = JSON.parse(line.toString().split('\n')[0] ?? '') as { publicUrl: string };
  return [child, publicUrl];
}

function serverOf(child: ChildProcess, url: string, token: string): ServerChild {
  const pid = child.pid ?? 0;
  return {
    url,
    token,
    pid,
    usage: async () => await Promise.resolve({ cpuMs: cpuOf(pid), rssBytes: rssOf(pid) }),
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
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

function rssOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1]) * 1024;
}
