// Every version of some files that a commit's history holds: for recognising a file that stood elsewhere before.
import { gitText } from './git-command.ts';
import { readBlobs } from './git-tree.ts';

export interface FileVersion {
  readonly path: string;
  readonly bytes: Buffer;
}

const HISTORY_TIMEOUT_MS = 300_000;
/** Blobs held at a time. */
const BATCH = 500;

/** Visits each version once for each path that it stood at. `pattern` is a git pathspec such as `*.age`. */
export async function visitFileHistory(
  repository: string,
  commit: string,
  pattern: string,
  visit: (file: FileVersion) => void,
): Promise<void> {
  const versions = await listVersions(repository, commit, pattern);
  for (let at = 0; at < versions.length; at += BATCH) {
    const some = versions.slice(at, at + BATCH);
    const blobs = await readBlobs(
      repository,
      some.map(({ oid }) => oid),
    );
    for (const [index, bytes] of blobs.entries()) {
      const path = some[index]?.path;
      if (bytes !== undefined && path !== undefined) visit({ path, bytes });
    }
  }
}

async function listVersions(
  repository: string,
  commit: string,
  pattern: string,
): Promise<{ readonly path: string; readonly oid: string }[]> {
  // -m: what a merge brought in counts too, whatever its parents say
  const args = [
    'log',
    '-m',
    '--raw',
    '-z',
    '--no-abbrev',
    '--no-renames',
    '--format=',
    '--end-of-options',
    commit,
  ];
  const options = { timeoutMs: HISTORY_TIMEOUT_MS };
  const text = await gitText(repository, [...args, '--', `:(glob,icase)**/${pattern}`], options);
  const seen = new Map<string, { path: string; oid: string }>();
  const fields = text.split('\0');
  for (const [index, field] of fields.entries()) {
    const oid = /:\d+ \d+ [0-9a-f]+ ([0-9a-f]+) [A-Z]/.exec(field)?.[1];
    const path = fields[index + 1];
    if (oid === undefined || path === undefined || /^0+$/.test(oid)) continue;
    seen.set(`${oid} ${path}`, { path, oid });
  }
  return [...seen.values()];
}
