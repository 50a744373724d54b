// What this host runs, would boot, and booted: read from links, without root and without a lock.
import { readFile, readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { exec } from '../effects/exec.ts';
import { findBootDefault } from './boot-default.ts';

export interface HostFacts {
  /** Real paths of /run/current-system, /run/booted-system and the system profile; undefined when there is none. */
  readonly current: string | undefined;
  readonly booted: string | undefined;
  readonly profile: string | undefined;
  /** What the boot loader would start; undefined where that cannot be told. */
  readonly bootDefault: string | undefined;
  readonly generation: number;
  readonly bootId: string;
  /** Kernel, initrd or modules of the running system differ from those that were booted. */
  readonly rebootRequired: boolean;
}

export async function readHostFacts(root = '/'): Promise<HostFacts> {
  const at = (file: string): string => path.join(root, file);
  const [current, booted, profile] = await Promise.all([
    target(at('run/current-system')),
    target(at('run/booted-system')),
    target(at('nix/var/nix/profiles/system')),
  ]);
  return {
    current,
    booted,
    profile,
    bootDefault: await findBootDefault(root),
    generation: await generationOf(at('nix/var/nix/profiles/system')),
    bootId: await textOf(at('proc/sys/kernel/random/boot_id')),
    rebootRequired: await kernelDiffers(booted, current),
  };
}

/** Whether systemd finds no failed unit; undefined when it does not run or is still starting. */
export async function systemHealthy(signal?: AbortSignal): Promise<boolean | undefined> {
  const options = { timeoutMs: 10_000, ...(signal && { signal }) };
  const { stdout } = await exec(['systemctl', 'is-system-running'], options);
  const word = stdout.toString('utf8').trim();
  if (word === 'running') return true;
  return word === 'degraded' ? false : undefined;
}

async function target(link: string): Promise<string | undefined> {
  try {
    return await realpath(link);
  } catch {
    return undefined;
  }
}

async function generationOf(profile: string): Promise<number> {
  try {
    const link = await readlink(profile);
    return Number(/-(\d+)-link$/.exec(link)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

async function textOf(file: string): Promise<string> {
  try {
    const text = await readFile(file, 'utf8');
    return text.trim();
  } catch {
    return '';
  }
}

async function kernelDiffers(booted: string | undefined, current: string | undefined): Promise<boolean> {
  if (booted === undefined || current === undefined || booted === current) return false;
  for (const part of ['kernel', 'initrd', 'kernel-modules']) {
    const [before, now] = [await target(path.join(booted, part)), await target(path.join(current, part))];
    if (before !== now) return true;
  }
  return false;
}
