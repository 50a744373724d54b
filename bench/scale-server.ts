// A real `slipway serve` over a data folder, and what the kernel says of its memory.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort } from './cache-result.ts';

const PROGRAM = path.join(import.meta.dirname, '../bin/slipway');

export interface ScaleServer extends AsyncDisposable {
  readonly url: string;
  /** Until now, in MB: what is resident, and the most that ever was. */
  memory(): { readonly residentMb: number; readonly peakMb: number };
}

/** `collectEvery`: seconds between two collections; the first comes after that time, a minute at most. 0: none. */
export async function serve(data: string, collectEvery: number): Promise<ScaleServer> {
  const config = path.join(data, 'bench.toml');
  const port = await freePort();
  // The packs of bench/scale-rows.ts do not exist: the scrub would rightly call all chunks lost.
  writeFileSync(
    config,
    `data = "${data}"
listen = ["127.0.0.1:${port}"]
scrubBytesPerSecond = 0
caches = [{ name = "main", public = true }]
gc = { every = ${collectEvery}, keep = ${30 * 86_400}, grace = 300 }
`,
  );
  const child = spawn(PROGRAM, ['serve', '--config', config, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.stdout.resume();
  return {
    url: `http://127.0.0.1:${port}`,
    memory: () => memoryOf(child.pid ?? 0),
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

function memoryOf(pid: number): { residentMb: number; peakMb: number } {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1]);
  return { residentMb: Math.round(kib('VmRSS') / 1000), peakMb: Math.round(kib('VmHWM') / 1000) };
}

/** Takes the file out of the kernel's memory: what is read next comes from the disk. */
export function forgetFile(file: string): void {
  execFileSync('sync', [file]);
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
}

/** The other way round: all of it is read once. */
export function rememberFile(file: string): void {
  execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=1M', 'status=none']);
}
