// A narinfo as it goes out: the text, its bytes, and the tag that tells it from other versions.
import { crc32 } from 'node:zlib';

export interface RenderedNarInfo {
  readonly body: Buffer;
  /** The same as a string, which goes out together with the headers. */
  readonly text: string;
  readonly etag: string;
  /** Garbage collection is about to remove the path; whoever is told of it must rescue it first. */
  readonly tombstoned: boolean;
  /** The round of access-times.ts in which a use of it was noted last. */
  notedIn: number;
}

export function renderNarInfo(hash: string, text: string, tombstoned: boolean): RenderedNarInfo {
  const body = Buffer.from(text);
  return { body, text, etag: `"${hash}-${crc32(body).toString(16)}"`, tombstoned, notedIn: -1 };
}
