// Reads a request's body with a limit and a deadline, and parses it at the door.
import type * as z from 'zod/mini';
import { formatIssue } from '../api/issue-text.ts';
import { SlipwayError } from '../util/errors.ts';
import type { AppContext } from './peer.ts';

const BODY_TIMEOUT_MS = 20_000;

/** The raw bytes; `too_large` over `limit` bytes, `too_slow` when they do not arrive. */
export async function readBody(c: AppContext, limit: number): Promise<Uint8Array> {
  const tooLarge = (): SlipwayError =>
    new SlipwayError('too_large', `The request body is larger than ${limit} bytes.`);
  if (Number(c.req.header('content-length') ?? 0) > limit) throw tooLarge();
  const reader = c.req.raw.body?.getReader();
  if (!reader) return new Uint8Array();
  const late = setTimeout(() => void reader.cancel().catch(() => undefined), BODY_TIMEOUT_MS);
  const began = Date.now();
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (Date.now() - began >= BODY_TIMEOUT_MS)
        throw new SlipwayError('too_slow', 'The request body came too slowly.');
      if (done) return Buffer.concat(chunks);
      size += value.byteLength;
      if (size > limit) throw tooLarge();
      chunks.push(value);
    }
  } catch (error) {
    await reader.cancel().catch(() => undefined);
    throw error;
  } finally {
    clearTimeout(late);
  }
}

/** The JSON body as `schema` wants it; otherwise `invalid`, saying where. */
export async function readJson<S extends z.ZodMiniType>(
  c: AppContext,
  schema: S,
  limit: number,
): Promise<z.infer<S>> {
  const body = await readBody(c, limit);
  const parsed = schema.safeParse(parseJson(body));
  if (parsed.success) return parsed.data;
  throw new SlipwayError('invalid', `The request body does not fit: ${formatIssue(parsed.error.issues[0])}.`);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (cause) {
    throw new SlipwayError('invalid', 'The request body is not JSON.', { cause });
  }
}
