// A narinfo as it goes out: the text, and the tag that tells it from other versions.
import { crc32 } from 'node:zlib';

export interface RenderedNarInfo {
  readonly text: string;
  /** Length of the text in UTF-8. */
  readonly bytes: number;
  readonly etag: string;
  /** Garbage collection is about to remove the path; whoever is told of it must rescue it first. */
  readonly tombstoned: boolean;
  /** The round of access-times.ts in which a use of it was noted last. */
  notedIn: number;
}

export function renderNarInfo(hash: string, text: string, tombstoned: boolean): RenderedNarInfo {
  const etag = `"${hash}-${crc32(text).toString(16)}"`;
  return { text, bytes: Buffer.byteLength(text), etag, tombstoned, notedIn: -1 };
}
