// Takes the first bytes off a streamed body and leaves the rest a stream.

export interface SplitBody {
  /** `length` bytes, or fewer when the body ended before. */
  readonly head: Buffer;
  /** To be read to its end or given up by `return`, as `for await` does. */
  readonly rest: AsyncIterable<Buffer>;
}

export async function splitBody(body: AsyncIterable<Buffer>, length: number): Promise<SplitBody> {
  const pieces = body[Symbol.asyncIterator]();
  const gathered: Buffer[] = [];
  let size = 0;
  while (size < length) {
    const next = await pieces.next();
    if (next.done === true) break;
    gathered.push(next.value);
    size += next.value.length;
  }
  const bytes = Buffer.concat(gathered);
  return { head: bytes.subarray(0, length), rest: remaining(bytes.subarray(length), pieces) };
}

async function* remaining(first: Buffer, pieces: AsyncIterator<Buffer>): AsyncIterable<Buffer> {
  try {
    if (first.length > 0) yield first;
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) yield next.value;
  } finally {
    await pieces.return?.();
  }
}
