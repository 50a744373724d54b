// What the crash suite and the servers that it kills say to each other over the IPC channel of the process.
import type { FsckReport } from '../../../src/cache/recovery/fsck.ts';
import type { S3Options } from '../../../src/storage/s3-client.ts';

/** Where a server keeps what it knows and what it holds. */
export interface CrashPlace {
  readonly data: string;
  /** Folder of the signing keys. Absent: in the data folder. */
  readonly keys?: string;
  /** Absent: SQLite in the data folder. */
  readonly postgres?: string;
  /** Absent: files in the data folder. */
  readonly s3?: S3Options;
  /** Several servers at once; each has a data folder of its own. */
  readonly shared?: boolean;
}

export type CrashOrder =
  /** `rebuild`: the database is empty and made anew from what is stored. */
  | { readonly kind: 'open'; readonly place: CrashPlace; readonly rebuild: boolean }
  /** Collects, merges and writes the journal without a pause from now on; dies at the n-th step if that is given. */
  | { readonly kind: 'work'; readonly dieAt: number | undefined; readonly collect: boolean }
  | { readonly kind: 'pin'; readonly storePath: string }
  | { readonly kind: 'fsck' }
  /** Writes what the journal lacks and says goodbye in order. */
  | { readonly kind: 'close' };

export type CrashAnswer =
  | { readonly kind: 'open'; readonly url: string; readonly token: string }
  | { readonly kind: 'fsck'; readonly report: FsckReport }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string };
