// The post-build hook and the queue with the real nix: builds go on while the cache is down, and nothing is lost.
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { drainQueue } from '../../src/client/drain-queue.ts';
import { findOutputs } from '../../src/client/find-outputs.ts';
import { pushClosure } from '../../src/client/push-closure.ts';
import { PushQueue } from '../../src/client/push-queue.ts';
import { exec } from '../../src/effects/exec.ts';
import {
  buildPaths,
  issueToken,
  makeNixClient,
  openCacheServer,
  temporaryFolder,
  type CacheServer,
  type NixClient,
} from './cache-scene.ts';

const HOOK = path.join(import.meta.dirname, '../../host/post-build-hook.sh');
const folder = temporaryFolder('client-queue');
let server: CacheServer;
let token: string;

before(async () => {
  server = await openCacheServer(path.join(folder.path, 'data'));
  token = await issueToken(server, 'write:main');
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await folder.remove();
});

/** A client whose builds leave a note in `queue`. */
function hooked(client: NixClient, queue: string): NixClient {
  const env = {
    HOME: client.home,
    SLIPWAY_QUEUE: queue,
    NIX_CONFIG: `experimental-features = nix-command\nsubstituters =\nbuild-users-group =\nsandbox = false\npost-build-hook = ${HOOK}`,
  };
  return { ...client, run: async (...argv) => await exec(argv, { env, timeoutMs: 60_000 }) };
}

test('a build notes its paths, and they reach the cache once it is there', async () => {
  const queue = new PushQueue(path.join(folder.path, 'queue'));
  await queue.open();
  const builder = hooked(makeNixClient(folder.path, 'builder'), queue.folder);
  const built = await buildPaths(builder, 'queue');
  assert.equal((await queue.next()).length, 2);
  let url = 'http://127.0.0.1:1/main';
  const events: string[] = [];
  await drainQueue({
    queue,
    push: async (paths, signal) =>
      await pushClosure({
        target: { url, token },
        paths,
        signal,
        store: { url: builder.store, root: path.join(builder.home, 'root') },
        env: { HOME: builder.home, NIX_CONFIG: 'experimental-features = nix-command\nsubstituters =' },
      }),
    findInvalid: async () => await Promise.resolve(new Set<string>()),
    findOutputs: async (derivation) => await findOutputs(derivation, path.join(builder.home, 'root')),
    report: (event) => {
      events.push(event.kind);
      url = `${server.url}/main`;
    },
    signal: AbortSignal.timeout(60_000),
    once: true,
    idleMs: 50,
  });
  assert.deepEqual(events, ['outage', 'pushed']);
  const rows = await server.database.read.selectFrom('store_path').select('store_path').execute();
  assert.deepEqual(rows.map((row) => row.store_path).toSorted(), [built.top, built.dependency].toSorted());
  assert.deepEqual(readdirSync(queue.folder), ['failed']);
});

test('the hook never fails a build: without a queue, with one that cannot be written, without paths', async () => {
  const locked = path.join(folder.path, 'not-a-folder');
  mkdirSync(locked, { mode: 0o500 });
  for (const env of [
    { SLIPWAY_QUEUE: '/nonexistent', OUT_PATHS: '/nix/store/x' },
    { SLIPWAY_QUEUE: '/dev/null', OUT_PATHS: '/nix/store/x' },
    { SLIPWAY_QUEUE: locked, OUT_PATHS: '' },
  ]) {
    const { code, stderr } = await exec(['sh', HOOK], { env, timeoutMs: 5_000 });
    assert.deepEqual([code, stderr], [0, '']);
  }
});
