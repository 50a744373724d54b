// A git tree as the secrets part wants to see it: paths at once, bytes when asked for.
import { listTree, readBlobs } from '../effects/git-tree.ts';
import type { SourceTree } from '../secrets/source-tree.ts';

/** `treeish` is a commit or tree id in the repository. */
export async function openGitTree(repository: string, treeish: string): Promise<SourceTree> {
  const entries = await listTree(repository, treeish);
  return {
    paths: entries.map((entry) => entry.path),
    read: async (paths) =>
      await readBlobs(
        repository,
        paths.map((path) => `${treeish}:${path}`),
      ),
  };
}
