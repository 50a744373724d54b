// A download as Nix does it (src/libstore/filetransfer.cc): five attempts, 250 ms and doubling between them, each going on
// where the last one was cut (Range). 404 is an answer; other failures of the connection or the server are tried again.
import { sleep } from '../../../src/util/deadline.ts';

const ATTEMPTS = 5;
const FIRST_PAUSE_MS = 250;
const ATTEMPT_MS = 60_000;

export interface Download {
  readonly status: number;
  readonly body: Buffer;
  readonly attempts: number;
}

/** Throws when the fifth attempt fails as well: then Nix fails, too. */
export async function downloadAsNix(url: string): Promise<Download> {
  const parts: Buffer[] = [];
  for (let attempt = 1; ; attempt++) {
    const have = parts.reduce((sum, part) => sum + part.length, 0);
    try {
      const headers: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
      const answer = await fetch(url, { headers, signal: AbortSignal.timeout(ATTEMPT_MS) });
      if (answer.status >= 500 || answer.status === 429)
        throw new Error(`${answer.status} ${await answer.text()}`);
      if (have > 0 && answer.status !== 206) parts.length = 0;
      for await (const part of answer.body ?? []) parts.push(Buffer.from(part as Uint8Array));
      const status = answer.status === 206 ? 200 : answer.status;
      return { status, body: Buffer.concat(parts), attempts: attempt };
    } catch (error) {
      if (attempt >= ATTEMPTS) throw error;
      await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.75 + Math.random() / 2));
    }
  }
}
