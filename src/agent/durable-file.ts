// Small JSON files that survive a power cut: a reader sees the old file or the new one, never a torn one.
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import type * as z from 'zod/mini';
import { formatIssue } from '../api/issue-text.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';

const MODE_PRIVATE = 0o600;
let counter = 0;

/** The file's content by its schema; undefined when there is no such file; `invalid` when it is damaged. */
export async function readJsonFile<S extends z.ZodMiniType>(
  file: string,
  schema: S,
): Promise<z.infer<S> | undefined> {
  const text = await readText(file);
  if (text === undefined) return undefined;
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `The file ${file} is damaged: ${formatIssue(parsed.error.issues[0])}.`, {
    next: `Look at it, then move it away; the agent starts afresh without it.`,
    facts: { issues: parsed.error.issues.slice(0, 5).map(formatIssue) },
  });
}

/** Temporary file, fsync, rename, fsync of the folder. The folder is made when missing (mode 0700). */
export async function writeFileDurably(file: string, content: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = path.join(folder, `.${path.basename(file)}.${process.pid}.${counter++}`);
  try {
    await writeSynced(temporary, content);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

async function writeSynced(file: string, content: string): Promise<void> {
  const handle = await open(file, 'wx', MODE_PRIVATE);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT') return undefined;
    if (code === 'EACCES') throw notForYou(file, cause);
    throw new SlipwayError('internal', `The file ${file} cannot be read: ${messageOf(cause)}.`, { cause });
  }
}

function notForYou(file: string, cause: unknown): SlipwayError {
  return new SlipwayError('forbidden', `Only root may look at the agent's state (${file}).`, {
    next: 'Run it with sudo.',
    cause,
  });
}
