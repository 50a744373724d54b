// Notices new store paths: Nix holds `<path>.lock` while it makes a path and removes it when the path is there.
// Inotify through fs.watch; what happens while nobody watches is not seen, which is what the post-build hook is for.
import { watch } from 'node:fs';
import { access } from 'node:fs/promises';
import { join } from 'node:path';

export interface StoreWatcher extends Disposable {
  /** Rejects when the folder cannot be watched any more. */
  readonly failed: Promise<never>;
}

/** Calls `onPath` with the path whose lock has just gone. Derivations, checks and sources are not worth a push. */
export function watchStore(storeDir: string, onPath: (path: string) => void): StoreWatcher {
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => undefined); // whoever awaits it hears of it
  const watcher = watch(storeDir, { persistent: true });
  watcher.on('error', (error) => failure.reject(error));
  watcher.on('change', (_event, name) => {
    const path = pathOfLock(storeDir, String(name));
    if (path === undefined) return;
    // Made or removed: only the latter says that the path is done.
    isThere(`${path}.lock`).then(
      (locked) => !locked && onPath(path),
      (error: unknown) => failure.reject(error),
    );
  });
  return { failed: failure.promise, [Symbol.dispose]: () => watcher.close() };
}

/** The path that a lock is for; undefined for other files and for what is not pushed. */
export function pathOfLock(storeDir: string, name: string): string | undefined {
  if (!/^[0-9abcdfghijklmnpqrsvwxyz]{32}-[\w+.?=-]+\.lock$/.test(name)) return undefined;
  const baseName = name.slice(0, -'.lock'.length);
  return /(\.drv|\.drv\.chroot|\.check|-source)$/.test(baseName) ? undefined : join(storeDir, baseName);
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
