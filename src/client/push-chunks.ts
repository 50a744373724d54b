// Pushes paths by Slipway's own protocol: NARs are cut into chunks, only chunks that the cache lacks are compressed, in
// frames, and sent, in bundles of some MB. Reading and cutting, compressing, and sending go on at the same time; in memory are a few
// windows of chunks and two bundles, whatever the size of a NAR. What was sent is durable: after a cut, the next push
// asks for it and does not send it again.
import { plain, type PatchedChunk } from '../content/chunk-patcher.ts';
import { MOST_PATHS_A_BUNDLE, type ChunkRecord, type FrameRecord } from '../content/bundle-format.ts';
import { encodeFrame } from '../content/frame-codec.ts';
import { SlabCutter, type SlabChunk, type SlabWindow } from '../content/slab-cutter.ts';
import type { PathInfo } from '../effects/path-info.ts';
import { mapAhead } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import { Bundle, type OutgoingNar } from './bundle.ts';
import { BundleSender } from './bundle-sender.ts';
import { ChunkEncoder, type EncodedChunks } from './chunk-encoder.ts';
import { readNar } from './read-nar.ts';
import type { PushTally } from './push-tally.ts';
import type { SlipwayCache } from './slipway-cache.ts';

export interface ChunkPushOptions {
  readonly cache: SlipwayCache;
  readonly tally: PushTally;
  /** In front of every store path on disk. */
  readonly root: string;
  readonly signal?: AbortSignal | undefined;
}

/** A window is a slab of 4 MiB, or so many chunks of small paths. */
const WINDOW_CHUNKS = 256;
const WINDOWS_AHEAD = 3;
/** What a bundle may make the server restore: it then answers within a second or two. */
const BUNDLE_RAW_BYTES = 256 * 1024 * 1024;
/** A quarter of what may be in one: the others wait for its transaction. */
const BUNDLE_PATHS = MOST_PATHS_A_BUNDLE / 4;
/** A push that the cache's garbage collection has overtaken begins anew. */
const ATTEMPTS = 3;

/** `missing` in any order; references are pushed before what refers to them. */
export async function pushChunks(options: ChunkPushOptions, missing: readonly PathInfo[]): Promise<void> {
  let left = referencesFirst(missing);
  for (let attempt = 1; left.length > 0; attempt++) {
    const push = new ChunkPush(options);
    if ((await push.run(left)) === 'done') return;
    if (attempt >= ATTEMPTS)
      throw new SlipwayError('unavailable', 'The cache lost again and again what it had said to hold.', {
        next: "Look at the server's log, and run: slipway cache fsck",
      });
    left = left.filter(({ path }) => !push.published.has(path));
  }
}

/** References before referrers; a path may refer to itself. */
export function referencesFirst(paths: readonly PathInfo[]): PathInfo[] {
  const byPath = new Map(paths.map((info) => [info.path, info]));
  const ordered = new Set<PathInfo>();
  const entered = new Set<PathInfo>();
  for (const root of paths) {
    const stack = [root];
    for (let info = stack.at(-1); info !== undefined; info = stack.at(-1)) {
      const first = !entered.has(info);
      entered.add(info);
      const below = first ? info.references.flatMap((reference) => byPath.get(reference) ?? []) : [];
      const waiting = below.filter((needed) => !entered.has(needed));
      if (waiting.length > 0) stack.push(...waiting);
      else {
        ordered.add(info);
        stack.pop();
      }
    }
  }
  return [...ordered];
}

interface EncodedWindow {
  readonly window: SlabWindow<OutgoingNar>;
  readonly encoded: EncodedChunks;
}

class ChunkPush {
  readonly #options: ChunkPushOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #encoder: ChunkEncoder;
  readonly #sender: BundleSender;
  /** Names of chunks that the cache holds or that are in a bundle already. */
  readonly #sent = new Set<string>();
  /** Of bundles that are answered. */
  readonly #spare: Buffer[] = [];
  #bundle: Bundle;
  /** One for each bundle that was begun. */
  readonly #sending: Promise<void>[] = [];

  constructor(options: ChunkPushOptions) {
    this.#options = options;
    const { signal: outer } = options;
    this.#signal = outer ? AbortSignal.any([outer, this.#stop.signal]) : this.#stop.signal;
    this.#sender = new BundleSender(options, this.#signal);
    this.#encoder = new ChunkEncoder(options.cache, this.#signal, () => this.#sender.effort);
    this.#bundle = Bundle.ofSize(this.#sender.fullBytes);
  }

  get published(): ReadonlySet<string> {
    return this.#sender.published;
  }

  /** `overtaken`: the cache does not hold any more what it said it did; `published` says what got through. */
  async run(paths: readonly PathInfo[]): Promise<'done' | 'overtaken'> {
    try {
      const windows = mapAhead(this.#cut(paths), WINDOWS_AHEAD, async (window): Promise<EncodedWindow> => {
        return { window, encoded: await this.#encoder.encode(window.chunks) };
      });
      for await (const encoded of windows) {
        await this.#assemble(encoded);
        if (this.#sender.isOvertaken) break;
      }
      await this.#send();
      await Promise.all(this.#sending);
      return this.#sender.isOvertaken ? 'overtaken' : 'done';
    } catch (error) {
      this.#stop.abort();
      // When sending failed, everything else was stopped because of it.
      for (const sending of this.#sending) await sending;
      throw error;
    }
  }

  /** Windows of chunks, over the borders of paths: many small paths are one question. */
  async *#cut(paths: readonly PathInfo[]): AsyncGenerator<SlabWindow<OutgoingNar>> {
    const { root, tally } = this.#options;
    const cutter = new SlabCutter<OutgoingNar>();
    for (const info of paths) {
      cutter.begin({ info, chunks: [], left: info.narSize });
      for await (const bytes of readNar(info, `${root}${info.path}`)) {
        this.#throwIfStopped();
        tally.readBytes += bytes.length;
        cutter.push(bytes);
        for (const window of cutter.take()) {
          tally.report();
          yield window;
        }
      }
      cutter.end();
      if (cutter.waiting >= WINDOW_CHUNKS) cutter.flush();
      yield* cutter.take();
    }
    cutter.flush();
    yield* cutter.take();
  }

  async #assemble({ window, encoded }: EncodedWindow): Promise<void> {
    const { chunks } = window;
    for (let at = 0; at < chunks.length;) {
      const { stream: nar, chunk } = chunks[at] as SlabChunk<OutgoingNar>;
      const record = await this.#recordOf(chunk, encoded);
      this.#bundle.chunks(nar, record);
      at += record.kind === 'frame' ? record.chunks.length : 1;
      if (nar.left === 0) this.#bundle.finish(nar);
      if (this.#isFull(this.#bundle)) await this.#send();
    }
    window.release();
  }

  #isFull({ size, rawBytes, finished }: Bundle): boolean {
    return size >= this.#sender.fullBytes || rawBytes >= BUNDLE_RAW_BYTES || finished.length >= BUNDLE_PATHS;
  }

  async #recordOf(
    chunk: PatchedChunk,
    { frames, unpatchable }: EncodedChunks,
  ): Promise<ChunkRecord | FrameRecord> {
    const frame = frames.get(chunk);
    if (frame !== undefined) {
      for (const one of frame.chunks) this.#sent.add(nameOf(one));
      return { kind: 'frame', chunks: frame.chunks.map(recordOf), frame: frame.frame };
    }
    if (!unpatchable.has(chunk) && !this.#unpatchable.has(nameOf(chunk))) return recordOf(chunk);
    this.#unpatchable.add(nameOf(chunk));
    const restored = plain(chunk);
    if (this.#sent.has(nameOf(restored))) return recordOf(restored);
    this.#sent.add(nameOf(restored));
    return { kind: 'frame', chunks: [recordOf(restored)], frame: await encodeFrame(restored.bytes) };
  }

  /** Names of chunks with places that zstd makes no frame of. */
  readonly #unpatchable = new Set<string>();

  /** Begins to send the bundle once it may go out. */
  async #send(): Promise<void> {
    const bundle = this.#bundle;
    if (bundle.isEmpty || this.#sender.isOvertaken) return;
    const { answered } = await this.#sender.begin(bundle);
    const sending = this.#finish(bundle, answered);
    sending.catch(() => undefined); // run() awaits it
    this.#sending.push(sending);
    const buffer = this.#spare.pop();
    this.#bundle = buffer === undefined ? Bundle.ofSize(this.#sender.fullBytes) : new Bundle(buffer);
  }

  async #finish(bundle: Bundle, answered: Promise<void>): Promise<void> {
    try {
      await answered;
      this.#spare.push(bundle.buffer);
    } catch (error) {
      this.#stop.abort();
      throw error;
    }
  }

  #throwIfStopped(): void {
    if (this.#options.signal?.aborted === true)
      throw new SlipwayError('cancelled', 'The push was cancelled.', { cause: this.#options.signal.reason });
    this.#signal.throwIfAborted();
  }
}

function recordOf({ hash, bytes, patches }: PatchedChunk): ChunkRecord {
  return { kind: 'chunk', hash, rawLength: bytes.length, patches };
}

function nameOf({ hash }: PatchedChunk): string {
  return hash.toString('latin1');
}
