// Paths that wait to be pushed: a folder with one small file a batch, written by the watcher and by post-build hooks,
// which only create and rename and so never wait for anything. A file goes once all of its paths are pushed, so what
// waits survives every restart. A file that fails again and again is moved aside, not lost.
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseStorePath, type StorePath } from '../nix/store-path.ts';

/** What a hook may leave; more in one file is not from it. */
const LARGEST_FILE = 4 * 1024 * 1024;
const MOST_FILES = 500;

export interface QueuedBatch {
  readonly file: string;
  readonly paths: readonly StorePath[];
}

export class PushQueue {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the folder; hooks of other users may add to it when its mode lets them. */
  async open(): Promise<void> {
    await mkdir(join(this.folder, 'failed'), { recursive: true });
  }

  async add(paths: readonly string[]): Promise<void> {
    if (paths.length === 0) return;
    const name = `${Date.now()}-${randomBytes(4).toString('hex')}`;
    const draft = join(this.folder, `.new.${name}`);
    await writeFile(draft, `${paths.join('\n')}\n`);
    await rename(draft, join(this.folder, name));
  }

  /** The oldest batches. Words in them that are no store paths are skipped. */
  async next(): Promise<QueuedBatch[]> {
    const names = (await readdir(this.folder)).filter((name) => /^[\w-]+$/.test(name) && name !== 'failed');
    const batches: QueuedBatch[] = [];
    for (const file of names.toSorted().slice(0, MOST_FILES)) {
      const text = await readFile(join(this.folder, file), 'utf8').catch(() => '');
      batches.push({ file, paths: text.length > LARGEST_FILE ? [] : pathsIn(text) });
    }
    return batches;
  }

  async done(batch: QueuedBatch): Promise<void> {
    await rm(join(this.folder, batch.file), { force: true });
  }

  async setAside(batch: QueuedBatch): Promise<void> {
    await rename(join(this.folder, batch.file), join(this.folder, 'failed', batch.file));
  }
}

function pathsIn(text: string): StorePath[] {
  return text.split(/\s+/).flatMap((word) => {
    try {
      return [parseStorePath(word)];
    } catch {
      return [];
    }
  });
}
