// One GET of a forge's JSON API: bounded in time and size, no redirect (it would carry the token elsewhere).
import { deadline } from '../util/deadline.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import type { ForgeAccess } from './forge.ts';

const TIMEOUT_MS = 15_000;
const MAX_BYTES = 2 * 1024 * 1024;

export interface ForgeRequest extends ForgeAccess {
  /** Below the root of the API, with a slash at its beginning. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The JSON value; undefined for 404. */
export async function getFromForge(request: ForgeRequest): Promise<unknown> {
  const url = `${request.api.replace(/\/+$/, '')}${request.path}`;
  const signal = deadline(TIMEOUT_MS, request.signal);
  try {
    const headers = { accept: 'application/json', ...request.headers };
    const response = await fetch(url, { headers, signal, redirect: 'error' });
    if (response.status === 404) return undefined;
    if (!response.ok) throw refused(url, response.status);
    return JSON.parse(await readBounded(response)) as unknown;
  } catch (error) {
    request.signal.throwIfAborted();
    if (error instanceof SlipwayError) throw error;
    throw unreachable(url, error);
  }
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    const bytes = chunk as Uint8Array;
    size += bytes.length;
    if (size > MAX_BYTES) throw new SlipwayError('too_large', 'The forge’s answer is larger than 2 MiB.');
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refused(url: string, status: number): SlipwayError {
  if (status === 401 || status === 403) {
    return new SlipwayError('unauthorized', `The forge refused ${url} (HTTP ${status}).`, {
      next: 'Give a token that may read the repository’s settings: --token-file FILE.',
    });
  }
  return new SlipwayError('unavailable', `The forge answered ${url} with HTTP ${status}.`);
}

function unreachable(url: string, cause: unknown): SlipwayError {
  return new SlipwayError('unavailable', `The forge does not answer ${url}: ${messageOf(cause)}`, {
    next: 'Check --api and the network.',
    cause,
  });
}
