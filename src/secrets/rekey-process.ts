// Starts the re-key child: the pinned Node, no environment, no core dump, no inspector, no right to write files, start
// processes or load add-ons; the identity on descriptor 3. The only way from here to a plaintext.
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { exec } from '../effects/exec.ts';
import { SlipwayError } from '../util/errors.ts';
import {
  formatRekeyMessage,
  parseRekeyMessage,
  type CannotReadReply,
  type CannotReadRequest,
  type IdentityRefused,
  type RekeyMessage,
  type RekeyReply,
  type RekeyRequest,
} from './rekey-message.ts';

export interface RekeyProcessOptions {
  /** The private key file's bytes; the caller fills them with zeros afterwards. */
  readonly identity: Uint8Array;
  readonly signal?: AbortSignal;
  /** Longest run in ms. Default 10 minutes. */
  readonly timeoutMs?: number;
  /** Called with the process id of the child. */
  readonly onStart?: (pid: number) => void;
}

const MAX_REPLY = 512 * 1024 * 1024;

export async function runRekey(
  request: RekeyMessage<RekeyRequest>,
  options: RekeyProcessOptions,
): Promise<RekeyMessage<RekeyReply>> {
  return await converse<RekeyReply>(request, options);
}

/** Which of the files the identity can read, although it must not. */
export async function findReadable(
  request: RekeyMessage<CannotReadRequest>,
  options: RekeyProcessOptions,
): Promise<readonly string[]> {
  return (await converse<CannotReadReply>(request, options)).head.readable;
}

async function converse<Reply>(
  request: RekeyMessage<RekeyRequest | CannotReadRequest>,
  options: RekeyProcessOptions,
): Promise<RekeyMessage<Reply>> {
  const result = await exec(childArgv(), {
    cwd: '/',
    env: Object.fromEntries(Object.keys(process.env).map((name) => [name, undefined])),
    input: formatRekeyMessage(request),
    secret: options.identity,
    timeoutMs: options.timeoutMs ?? 600_000,
    maxOutput: MAX_REPLY,
    ...(options.signal && { signal: options.signal }),
    ...(options.onStart && { onStart: options.onStart }),
  });
  if (result.code !== 0) throw childFailed(result.code, result.stderr);
  const reply = parseRekeyMessage<Reply | IdentityRefused>(result.stdout);
  if (isRefused(reply.head)) throw identityRefused(reply.head);
  return { head: reply.head, blobs: reply.blobs };
}

/** The shell sets the limit on core dumps, which Node cannot, and becomes Node. */
function childArgv(): string[] {
  const program = fileURLToPath(new URL(`./rekey-child${path.extname(import.meta.url)}`, import.meta.url));
  const flags = ['--permission', '--allow-fs-read=*', '--disable-sigusr1', '--no-warnings'];
  const script = 'ulimit -c 0 && exec "$@"';
  return ['/bin/sh', '-c', script, 'rekey', process.execPath, ...flags, program];
}

function isRefused(head: unknown): head is IdentityRefused {
  return typeof head === 'object' && head !== null && 'refused' in head;
}

function identityRefused(head: IdentityRefused): SlipwayError {
  return new SlipwayError('secrets_failed', `The re-key identity cannot be used: ${head.refused}`, {
    ...(head.next !== undefined && { next: head.next }),
  });
}

function childFailed(code: number, stderr: string): SlipwayError {
  const said = stderr.trim().split('\n').at(-1) ?? '';
  return new SlipwayError('internal', `The re-key process ended with exit code ${code}: ${said}`, {
    next: 'Nothing was changed. Run it again; if it stays, report it with this message.',
  });
}
