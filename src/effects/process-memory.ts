// Watches the resident memory of a process and its descendants (Linux /proc), to stop an evaluation before the
// kernel's OOM killer picks somebody else.
import { readFile } from 'node:fs/promises';

const POLL_MS = 200;
const PAGE_BYTES = 4096;

/** Polls until `signal` fires; calls `onExceeded` once with the bytes seen when they are over `limit`. */
export function watchMemory(
  pid: number,
  limit: number,
  onExceeded: (bytes: number) => void,
): { readonly peak: () => number } & Disposable {
  let peak = 0;
  let busy = false;
  const look = async (): Promise<void> => {
    if (busy) return;
    busy = true;
    const bytes = await residentBytes(pid);
    peak = Math.max(peak, bytes);
    busy = false;
    if (bytes <= limit) return;
    clearInterval(timer);
    onExceeded(bytes);
  };
  const timer = setInterval(() => void look(), POLL_MS);
  return { peak: () => peak, [Symbol.dispose]: () => clearInterval(timer) };
}

/** Bytes that the process and its descendants hold in memory; 0 when it is gone. */
export async function residentBytes(pid: number): Promise<number> {
  const own = await readProc(`/proc/${pid}/statm`);
  const pages = Number(own.split(' ')[1] ?? 0);
  const children = (await readProc(`/proc/${pid}/task/${pid}/children`)).split(' ').filter(Boolean);
  const below = await Promise.all(children.map(async (child) => await residentBytes(Number(child))));
  return below.reduce((sum, bytes) => sum + bytes, pages * PAGE_BYTES);
}

async function readProc(path: string): Promise<string> {
  return await readFile(path, 'utf8').catch(() => '');
}
