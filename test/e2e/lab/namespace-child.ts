// Finds, from outside, the process that is number 1 of a PID namespace below a given process (Linux proc(5): NSpid).
import { readFile } from 'node:fs/promises';
import { sleep } from '../../../src/util/deadline.ts';

/** The pid, as this process sees it, of the first process 1 below `ancestor`; waits until there is one. */
export async function waitForNamespaceInit(ancestor: number, signal: AbortSignal): Promise<number> {
  const depth = (await namespacePids(ancestor)).length;
  for (;;) {
    signal.throwIfAborted();
    const found = await findInit(ancestor, depth);
    if (found !== undefined) return found;
    await sleep(10, signal);
  }
}

async function findInit(pid: number, depth: number): Promise<number | undefined> {
  for (const child of await children(pid)) {
    const pids = await namespacePids(child);
    if (pids.length > depth && pids.at(-1) === 1) return child;
    const below = await findInit(child, depth);
    if (below !== undefined) return below;
  }
  return undefined;
}

async function children(pid: number): Promise<number[]> {
  const text = await readProc(`/proc/${pid}/task/${pid}/children`);
  return text.split(' ').filter(Boolean).map(Number);
}

/** The pids of a process, from the outermost namespace that we see to its own. Empty when it is gone. */
async function namespacePids(pid: number): Promise<number[]> {
  const line = /^NSpid:\s*(.*)$/m.exec(await readProc(`/proc/${pid}/status`));
  return (line?.[1] ?? '').split(/\s+/).filter(Boolean).map(Number);
}

async function readProc(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return ''; // the process is gone
  }
}
