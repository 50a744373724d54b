// What this machine's store knows about a toplevel that is to be deployed, and what of it a host lacks.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '../effects/exec.ts';
import type { Host } from '../effects/host.ts';
import type { ClosureFacts } from './deploy-plan.ts';

const QUERY_TIMEOUT_MS = 60_000;

export async function readClosureFacts(toplevel: string): Promise<ClosureFacts> {
  const [system, size] = await Promise.all([
    readFile(join(toplevel, 'system'), 'utf8').catch(() => ''), // not here: the host fetches it itself
    readClosureSize(toplevel),
  ]);
  return { system: system.trim(), size };
}

async function readClosureSize(toplevel: string): Promise<number> {
  const sizes = await querySizes(await queryRequisites(toplevel));
  return sum(sizes.values());
}

/** Bytes of those paths of the closure that the host does not have. */
export async function readMissingSize(host: Host, toplevel: string): Promise<number> {
  const paths = await queryRequisites(toplevel);
  const result = await host.run(['xargs', 'nix-store', '--check-validity', '--print-invalid'], {
    input: `${paths.join('\n')}\n`,
    timeoutMs: QUERY_TIMEOUT_MS,
  });
  return sum((await querySizes(splitLines(result.stdout.toString('utf8')))).values());
}

/** The closure's paths as this machine's store knows them; none when it does not have it. */
export async function queryRequisites(path: string): Promise<string[]> {
  return await query(['--query', '--requisites', path]);
}

async function querySizes(paths: readonly string[]): Promise<Map<string, number>> {
  if (paths.length === 0) return new Map();
  const sizes = await query(['--query', '--size', ...paths]);
  return new Map(paths.map((path, index) => [path, Number(sizes[index]) || 0]));
}

async function query(args: readonly string[]): Promise<string[]> {
  const result = await exec(['nix-store', ...args], { timeoutMs: QUERY_TIMEOUT_MS });
  return result.code === 0 ? splitLines(result.stdout.toString('utf8')) : [];
}

function splitLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
