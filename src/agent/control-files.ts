// How `slipway agent sync|retry|accept|suspend|resume` speaks to the running agent: by small files in its state
// folder (mode 0700, so root's alone). A request is a file in requests/; the agent watches the folder, answers on
// its next step and removes it. Nothing listens, so nothing can be reached from the network or by other users,
// and a request also reaches an agent that is started later.
import { watch } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import * as z from 'zod/mini';
import { gitCommit, storePathText } from '../api/manifest.ts';
import { isCode } from '../util/errors.ts';
import { readJsonFile, writeFileDurably } from './durable-file.ts';

const agentRequest = z.discriminatedUnion('kind', [
  /** Poll now. */
  z.object({ kind: z.literal('sync') }),
  /** Take a quarantined toplevel (or all) out of quarantine, and poll now. */
  z.object({ kind: z.literal('retry'), toplevel: z.optional(storePathText) }),
  /** Take this commit although the history of the branch was rewritten. */
  z.object({ kind: z.literal('accept'), commit: gitCommit }),
]);

const suspension = z.object({
  reason: z.string(),
  by: z.string(),
  since: z.iso.datetime(),
  until: z.optional(z.iso.datetime()),
});

export type AgentRequest = z.infer<typeof agentRequest>;
export type Suspension = z.infer<typeof suspension>;
export type ReceivedRequest = AgentRequest & { readonly id: string };

const REQUEST_FILE = /^([0-9a-f-]{36})\.json$/;
const MAX_REQUESTS = 100;

/** Leaves a request for the agent and returns its id. */
export async function writeAgentRequest(stateDir: string, request: AgentRequest): Promise<string> {
  const id = randomUUID();
  await writeFileDurably(path.join(requestsFolder(stateDir), `${id}.json`), JSON.stringify(request));
  return id;
}

/** The requests that wait, oldest names first. A file that is no request is removed: it can never be answered. */
export async function readAgentRequests(stateDir: string): Promise<ReceivedRequest[]> {
  const folder = requestsFolder(stateDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const names = await readdir(folder);
  const received: ReceivedRequest[] = [];
  for (const name of names.toSorted().slice(0, MAX_REQUESTS)) {
    const id = REQUEST_FILE.exec(name)?.[1];
    if (id === undefined) continue;
    const request = await findRequest(path.join(folder, name));
    if (request !== undefined) received.push({ ...request, id });
  }
  return received;
}

/** Removes a request once its effect is on disk. */
export async function removeAgentRequest(stateDir: string, id: string): Promise<void> {
  await rm(path.join(requestsFolder(stateDir), `${id}.json`), { force: true });
}

/** Calls `wake` whenever a request arrives, until the watch is disposed. */
export async function watchAgentRequests(stateDir: string, wake: () => void): Promise<Disposable> {
  const folder = requestsFolder(stateDir);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const watcher = watch(folder, { persistent: false }, (_event, name) => {
    if (name === null || REQUEST_FILE.test(name)) wake();
  });
  watcher.on('error', wake); // the next poll notices what the watch can no longer tell
  return { [Symbol.dispose]: () => watcher.close() };
}

/** The suspension in force at `now`; one that has expired is none. */
export async function findSuspension(stateDir: string, now: Date): Promise<Suspension | undefined> {
  const found = await readJsonFile(suspensionFile(stateDir), suspension);
  const expired = found?.until !== undefined && Date.parse(found.until) <= now.getTime();
  return expired ? undefined : found;
}

export async function writeSuspension(stateDir: string, wanted: Suspension): Promise<void> {
  await writeFileDurably(suspensionFile(stateDir), `${JSON.stringify(wanted)}\n`);
}

export async function removeSuspension(stateDir: string): Promise<void> {
  await rm(suspensionFile(stateDir), { force: true });
}

async function findRequest(file: string): Promise<AgentRequest | undefined> {
  try {
    return await readJsonFile(file, agentRequest);
  } catch (error) {
    if (!isCode(error, 'invalid')) throw error;
    await rm(file, { force: true });
    return undefined;
  }
}

function requestsFolder(stateDir: string): string {
  return path.join(stateDir, 'requests');
}

function suspensionFile(stateDir: string): string {
  return path.join(stateDir, 'suspended.json');
}
