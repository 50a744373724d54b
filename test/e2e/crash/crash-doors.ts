// The ways by which the clients of a killed server push a path: Nix's protocol, and Slipway's in one bundle or in two, of which
// the second goes on where the first has ended. What is said to be held already is only named.
import { narInfo, type TestPath } from '../../contract/cache-uploads.ts';
import {
  begin,
  BundleSender,
  bundleOf,
  chunksOf,
  named,
  pathRecord,
  resume,
  sent,
  type UploadAnswer,
} from '../../contract/upload-bundles.ts';
import type { CrashChild } from './crash-child.ts';

export interface DoorAnswer {
  readonly status: number;
  readonly text: string;
}

export type Door = (
  child: CrashChild,
  cache: string,
  path: TestPath,
  references: string,
) => Promise<DoorAnswer>;

export const DOORS: readonly Door[] = [byNix, byBundle, byTwoBundles];

async function byNix(child: CrashChild, cache: string, path: TestPath, References: string) {
  const client = child.client(cache);
  const nar = await client.put(path.url, path.file);
  if (nar.status !== 200) return nar;
  return await client.put(`${path.hash}.narinfo`, narInfo(path, { References }));
}

async function byBundle(child: CrashChild, cache: string, path: TestPath, References: string) {
  const chunks = await chunksOf(path.nar);
  const bundle = bundleOf(begin(path), ...chunks.map(sent), pathRecord(path, { References }));
  return answerOf(await new BundleSender(child.url, cache, child.token).send(bundle));
}

async function byTwoBundles(child: CrashChild, cache: string, path: TestPath, References: string) {
  const sender = new BundleSender(child.url, cache, child.token);
  const chunks = await chunksOf(path.nar);
  if (chunks.length < 2) return await byBundle(child, cache, path, References);
  const letters = await sender.missingChunks(chunks);
  const records = chunks.map((chunk, n) => (letters[n] === 'h' ? named(chunk) : sent(chunk)));
  const half = Math.floor(chunks.length / 2);
  const first = await sender.send(bundleOf(begin(path), ...records.slice(0, half)));
  if (first.status !== 200) return answerOf(first);
  const rest = bundleOf(resume(path, half), ...records.slice(half), pathRecord(path, { References }));
  return answerOf(await sender.send(rest));
}

/** 503 means to our own client what a readable 4xx means to others: that it may push again. */
function answerOf({ status, body }: UploadAnswer): DoorAnswer {
  return { status: status === 503 ? 422 : status, text: JSON.stringify(body) };
}
