// A path of the store as the chunks of its NAR, named and ready to be sent: read once, normalised and cut on the way. The
// NAR's own hash is left to the server, which checks it in any case; the length is checked here.
import { readNarNode } from '../effects/nar-files.ts';
import type { PathInfo } from '../effects/path-info.ts';
import { ChunkPatcher, type PatchedChunk } from '../content/chunk-patcher.ts';
import { Chunker } from '../content/chunker.ts';
import { Normaliser, type NormalisedBytes } from '../content/normaliser.ts';
import { writeNar } from '../nix/nar-writer.ts';
import { SlipwayError } from '../util/errors.ts';

/** `realPath`: where the path lies on disk. Fails with `nar_hash_mismatch` when it has another size than it had. */
export async function* cutNar(info: PathInfo, realPath: string): AsyncGenerator<PatchedChunk> {
  const cutter = new Cutter();
  let size = 0;
  for await (const bytes of writeNar(await readNarNode(realPath))) {
    size += bytes.length;
    if (size > info.narSize) break;
    yield* cutter.push(bytes);
  }
  if (size !== info.narSize) throw changedOnDisk(info);
  yield* cutter.end();
}

export function changedOnDisk(info: PathInfo): SlipwayError {
  return new SlipwayError('nar_hash_mismatch', `${info.path} was changed on disk after it was built.`, {
    next: `Repair it: nix-store --repair-path ${info.path}`,
  });
}

class Cutter {
  readonly #normaliser = new Normaliser();
  readonly #patcher = new ChunkPatcher();
  readonly #chunker = new Chunker();
  #cut: PatchedChunk[] = [];

  push(bytes: Uint8Array): readonly PatchedChunk[] {
    this.#take(this.#normaliser.push(bytes));
    return this.#done();
  }

  end(): readonly PatchedChunk[] {
    this.#take(this.#normaliser.end());
    this.#chunker.end(this.#add);
    return this.#done();
  }

  #take({ bytes, taken }: NormalisedBytes): void {
    this.#patcher.add(taken);
    this.#chunker.push(bytes, this.#add);
  }

  #done(): readonly PatchedChunk[] {
    const cut = this.#cut;
    this.#cut = [];
    return cut;
  }

  readonly #add = (bytes: Buffer): void => void this.#cut.push(this.#patcher.patch(bytes));
}
