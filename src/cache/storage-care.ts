// What a server does for its storage beside serving it: the journal, the merging of small packs, the slow look through
// all of them.
import type { BlobStore } from '../storage/blob-store.ts';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import { Journal } from './recovery/journal.ts';
import { mergeRegularly } from './garbage/merge-packs.ts';
import { startScrub } from './recovery/scrub.ts';

export interface StorageCareOptions {
  readonly database: Database;
  readonly blobs: BlobStore;
  /** How fast packs are looked through; 0: not at all. */
  readonly scrubBytesPerSecond: number;
  readonly onError: (error: unknown) => void;
}

/** Disposing writes what the journal still lacks. */
export function startStorageCare(options: StorageCareOptions): AsyncDisposable {
  const { database, blobs, onError } = options;
  const journal = new Journal({ database, blobs }, onError);
  journal.start();
  const merging = mergeRegularly({ database, blobs, onError });
  const onDamage = ({ pack, chunks }: { readonly pack: string; readonly chunks: number }): void =>
    onError(damage(pack, chunks));
  const bytesPerSecond = options.scrubBytesPerSecond;
  const scrub =
    bytesPerSecond === 0 ? undefined : startScrub({ database, blobs, bytesPerSecond, onDamage, onError });
  return {
    [Symbol.asyncDispose]: async () => {
      await merging[Symbol.asyncDispose]();
      await scrub?.[Symbol.asyncDispose]();
      await journal[Symbol.asyncDispose]();
    },
  };
}

function damage(pack: string, chunks: number): SlipwayError {
  return new SlipwayError('unavailable', `${chunks} chunks of the pack ${pack} are missing or damaged.`, {
    next: 'Their paths are absent until they are pushed again. To list them: slipway cache fsck',
    facts: { pack, chunks },
  });
}
