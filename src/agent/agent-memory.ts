// The running agent's hold on its state: one process at a time, every change on disk before it counts.
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod/mini';
import type { AgentOperation } from '../api/agent-report.ts';
import { isCode, SlipwayError } from '../util/errors.ts';
import { emptyAgentState, findAgentState, writeAgentState, type AgentState } from './agent-state.ts';
import { readJsonFile, writeFileDurably } from './durable-file.ts';

/** A process id may be used again: the start time (ticks since boot, /proc/<pid>/stat) tells the two apart. */
const owner = z.object({ pid: z.int(), startedAt: z.string() });

export class AgentMemory implements AsyncDisposable {
  readonly #stateDir: string;
  #state: AgentState;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(stateDir: string, state: AgentState) {
    this.#stateDir = stateDir;
    this.#state = state;
  }

  /** Takes the state folder for this process; `conflict` when another agent has it. */
  static async open(stateDir: string): Promise<AgentMemory> {
    const other = await findRunningAgent(stateDir);
    if (other !== undefined && other !== process.pid) {
      throw new SlipwayError('conflict', `Another agent (process ${other}) works with ${stateDir}.`, {
        next: 'Stop it first: systemctl stop slipway-agent.',
      });
    }
    const mine = { pid: process.pid, startedAt: await startTime(process.pid) };
    await writeFileDurably(ownerFile(stateDir), JSON.stringify(mine));
    return new AgentMemory(stateDir, (await findAgentState(stateDir)) ?? emptyAgentState(new Date()));
  }

  get state(): AgentState {
    return this.#state;
  }

  /** Applies the change and returns once it is on disk. Changes happen one after the other, in the order of calls. */
  async update(change: (state: AgentState) => AgentState): Promise<AgentState> {
    const done = this.#last.then(async () => {
      const next = { ...change(this.#state), updatedAt: new Date().toISOString() };
      await writeAgentState(this.#stateDir, next);
      this.#state = next;
      return next;
    });
    this.#last = done.catch(() => undefined);
    return await done;
  }

  async setOperation(name: AgentOperation): Promise<void> {
    if (this.#state.operation.name === name) return;
    await this.update((state) => ({ ...state, operation: { name, since: new Date().toISOString() } }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(ownerFile(this.#stateDir), { force: true });
  }
}

/** The process id of the agent that works with this folder; undefined when none runs. */
export async function findRunningAgent(stateDir: string): Promise<number | undefined> {
  const found = await findOwner(stateDir);
  if (found === undefined) return undefined;
  return (await startTime(found.pid)) === found.startedAt ? found.pid : undefined;
}

async function findOwner(stateDir: string): Promise<z.infer<typeof owner> | undefined> {
  try {
    return await readJsonFile(ownerFile(stateDir), owner);
  } catch (error) {
    if (isCode(error, 'invalid')) return undefined; // a torn file of a crashed host names nobody
    throw error;
  }
}

/** Field 22 of /proc/<pid>/stat; the command name before it may contain anything but ends with the last `)`. */
async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return 'gone';
  }
}

function ownerFile(stateDir: string): string {
  return path.join(stateDir, 'agent.pid');
}
