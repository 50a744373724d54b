// The NARs that links to debug information name. Their URL tells no path, so nobody has signed them; but it holds the
// SHA-256 of the file, or (of another Slipway) of the NAR in it. What has neither, or is no NAR, is not handed out whole.
// They are passed on as the upstream has them, and not kept.
import { createHash } from 'node:crypto';
import { NarReader } from '../../nix/nar-reader.ts';
import { deadline } from '../../util/deadline.ts';
import { SlipwayError } from '../../util/errors.ts';
import type { Cache } from '../cache-registry.ts';
import type { OpenedContent } from '../content-reader.ts';
import { parseNarName, type NarName } from '../nar-names.ts';
import { firstAnswer, RememberedAnswers } from './remembered-answers.ts';
import { SharedFetches } from './shared-fetches.ts';
import type { Spool } from './spool.ts';
import { decompressNar, type ReadableCompression } from './upstream-compression.ts';
import type { UpstreamMetrics } from './upstream-metrics.ts';
import type { Upstream } from './upstream.ts';

/** Each lies on the disk while it is fetched. */
const FETCHES = 2;
const LARGEST_FILE = 4 * 2 ** 30;
/** Debug information packs well, but not so well: more is a bomb. */
const BYTES_A_BYTE = 100;
const LARGEST_TINY_NAR = 16 * 2 ** 20;
const MEMORY_BYTES = 2 * 1024 * 1024;
const ENTRY_BYTES = 400;

const COMPRESSIONS: Readonly<Record<string, ReadableCompression>> = {
  '': 'none',
  '.zst': 'zstd',
  '.xz': 'xz',
  '.br': 'br',
  '.gz': 'gzip',
};

export interface UpstreamArchivesParts {
  readonly directory: string;
  readonly metrics: UpstreamMetrics;
  readonly upstreamsOf: (cache: Cache) => readonly Upstream[];
  readonly lookupMs: number;
  readonly onProblem: (error: unknown) => void;
}

interface Archive {
  readonly upstream: Upstream;
  readonly fileName: string;
  readonly name: NarName;
  readonly size: number;
}

export class UpstreamArchives implements AsyncDisposable {
  readonly #parts: UpstreamArchivesParts;
  readonly #closing = new AbortController();
  readonly #fetches: SharedFetches;
  readonly #known: RememberedAnswers<Archive>;

  constructor(parts: UpstreamArchivesParts) {
    this.#parts = parts;
    const onShared = (): void => parts.metrics.shared('nar');
    this.#fetches = new SharedFetches({ ...parts, atOnce: FETCHES, onShared });
    this.#known = new RememberedAnswers({ maxBytes: MEMORY_BYTES, bytesOf: () => ENTRY_BYTES });
  }

  /** A file below `nar/` that an upstream has under this very name. Never rejects. */
  async find(cache: Cache, fileName: string): Promise<OpenedContent | undefined> {
    const name = parseNarName(fileName);
    if (cache.upstreams.length === 0 || name === undefined || COMPRESSIONS[name.suffix] === undefined)
      return undefined;
    const key = `${cache.id}/${cache.sourcesKey}/${fileName}`;
    const archive = await this.#known.find(key, async () => await this.#ask(cache, fileName, name));
    return archive && this.#open(archive, key);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#known.settled();
    await this.#fetches[Symbol.asyncDispose]();
  }

  async #ask(cache: Cache, fileName: string, name: NarName) {
    const done = new AbortController();
    const signal = deadline(this.#parts.lookupMs, done.signal, this.#closing.signal);
    return await firstAnswer(
      this.#parts.upstreamsOf(cache),
      async (upstream): Promise<Archive | undefined> => {
        const size = await upstream.findSize(`nar/${fileName}`, signal);
        return size === undefined || size > LARGEST_FILE ? undefined : { upstream, fileName, name, size };
      },
    ).finally(() => done.abort());
  }

  #open(archive: Archive, key: string): OpenedContent {
    const { size } = archive;
    const fetch = async (spool: Spool, signal: AbortSignal): Promise<void> => {
      const started = performance.now();
      try {
        await receive(archive, spool, signal);
        archive.upstream.noteNar(undefined, performance.now() - started);
      } catch (error) {
        this.#known.forget(key);
        if (!signal.aborted) archive.upstream.noteNar(error, performance.now() - started);
        throw error;
      }
    };
    return {
      length: size,
      start: async ({ start, end }) => await this.#fetches.read({ key, size, fetch }, start, end),
    };
  }
}

/** Throws unless exactly the file, or the NAR, that the name tells of has come. */
async function receive(archive: Archive, spool: Spool, signal: AbortSignal): Promise<void> {
  const { upstream, fileName, name, size } = archive;
  const hashes = { file: createHash('sha256'), nar: createHash('sha256') };
  let received = 0;
  async function* file(): AsyncGenerator<Buffer> {
    for await (const piece of upstream.readNar(
      { url: `nar/${fileName}`, what: fileName, most: size },
      signal,
    )) {
      received += piece.length;
      hashes.file.update(piece);
      await spool.append(piece);
      yield piece;
    }
  }
  const reader = new NarReader({}, { maxSize: LARGEST_TINY_NAR + size * BYTES_A_BYTE });
  for await (const bytes of decompressNar(file(), COMPRESSIONS[name.suffix] ?? 'none')) {
    reader.write(bytes);
    hashes.nar.update(bytes);
  }
  reader.end();
  const known = [hashes.file, hashes.nar].some((hash) => hash.digest().equals(name.hash));
  if (!known || received !== size)
    throw new SlipwayError('nar_hash_mismatch', `${upstream.name} sent another file than ${fileName}.`);
  spool.prove();
}
