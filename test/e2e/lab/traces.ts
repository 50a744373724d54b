// What a world could leave behind on the machine: processes, mounts, network namespaces, cgroups, its folder.
import { existsSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { exec } from '../../../src/effects/exec.ts';

export interface Traces {
  readonly processes: readonly number[];
  readonly mounts: readonly string[];
  readonly netns: readonly string[];
  readonly cgroups: readonly string[];
  readonly folder: readonly string[];
}

/** Everything on the machine that bears the name of the world in `folder`, or lives in a namespace of `namespaces`. */
export async function findTraces(folder: string, namespaces: ReadonlySet<string>): Promise<Traces> {
  const name = basename(folder);
  // The exit codes say nothing: cgroups and processes of a world that is ending vanish while they are listed.
  const cgroups = await exec(['find', '/sys/fs/cgroup', '-type', 'd', '-name', name]);
  const mounts = await readFile('/proc/mounts', 'utf8');
  const netns = await exec(['sh', '-c', 'ip netns list; lsns --noheadings --output NS --type net']);
  return {
    processes: await findProcesses(name, namespaces),
    mounts: lines(mounts).filter((line) => line.includes(name)),
    netns: lines(netns.stdout.toString()).filter((line) => namespaces.has(`net:[${line.trim()}]`)),
    cgroups: lines(cgroups.stdout.toString()),
    folder: existsSync(folder) ? [folder] : [],
  };
}

/** The network namespaces of the world's hosts, and of its controller side; and its PID namespaces. */
export async function worldNamespaces(folder: string, init: number): Promise<Set<string>> {
  const own = new Set([await readlink(`/proc/${init}/ns/net`), await readlink(`/proc/${init}/ns/pid`)]);
  for (const pid of await findProcesses(basename(folder), own)) {
    for (const kind of ['net', 'pid']) own.add(await readlink(`/proc/${pid}/ns/${kind}`));
  }
  for (const kind of ['net', 'pid']) own.delete(await readlink(`/proc/self/ns/${kind}`));
  return own;
}

async function findProcesses(name: string, namespaces: ReadonlySet<string>): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((entry) => /^\d+$/.test(entry)).map(Number);
  const found = await Promise.all(pids.map(async (pid) => await belongs(pid, name, namespaces)));
  return pids.filter((pid, index) => found[index] === true && pid !== process.pid);
}

async function belongs(pid: number, name: string, namespaces: ReadonlySet<string>): Promise<boolean> {
  try {
    if (namespaces.has(await readlink(`/proc/${pid}/ns/pid`))) return true;
    if ((await readFile(`/proc/${pid}/cgroup`, 'utf8')).includes(name)) return true;
    return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).includes(name);
  } catch {
    return false; // it ended while we looked
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter(Boolean);
}
