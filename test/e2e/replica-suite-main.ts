// `make test-replicas`: three servers on one PostgreSQL and one bucket behind a balancer, one of them collecting garbage and
// all merging packs. Under reading and writing load one server is killed with SIGKILL and started again, then the database
// crashes and starts again, round after round. No read fails after Nix's own retries, and no accepted upload is lost.
// Usage: replica-suite-main.ts [--rounds 5] [--seconds 8]. The last line is JSON.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { formatBase32 } from '../../src/nix/base32.ts';
import { sleep } from '../../src/util/deadline.ts';
import { messageOf } from '../../src/util/errors.ts';
import { narInfo, noise, testPath, Uploader, type TestPath } from '../contract/cache-uploads.ts';
import { openBalancer } from './crash/balancer.ts';
import { CrashChild } from './crash/crash-child.ts';
import type { CrashPlace } from './crash/crash-messages.ts';
import { CrashPlaces } from './crash/crash-places.ts';
import { downloadAsNix } from './crash/nix-retries.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '8' } },
});

async function runSuite(rounds: number, roundMs: number): Promise<number> {
  await using places = new CrashPlaces();
  const base = await places.make('s3+postgres');
  const replicas: CrashChild[] = [];
  for (let n = 0; n < 3; n++) replicas.push(await startReplica(placeOf(base, n), n === 0));
  await using balancer = await openBalancer();
  balancer.ports = replicas.map(portOf);
  const load = new Load(balancer.url, () => replicas.find(({ alive }) => alive)?.token ?? '');
  const ending = new AbortController();
  const running = load.run(ending.signal);
  try {
    for (let round = 0; round < rounds; round++) {
      const victim = round % 3;
      await sleep(roundMs / 4);
      await replicas[victim]?.kill();
      await sleep(roundMs / 4);
      await (await places.postgres()).crash();
      await sleep(roundMs / 4);
      replicas[victim] = await startReplica(placeOf(base, victim), victim === 0);
      balancer.ports = replicas.map(portOf);
      await sleep(roundMs / 4);
      for (const replica of replicas) replica.check();
      process.stdout.write(`round ${round + 1}: ${JSON.stringify(load.figures)}\n`);
    }
    ending.abort();
    await running;
    await load.assertAllThere();
    const report = await (replicas[1] as CrashChild).fsck();
    assert.ok(report.clean, JSON.stringify(report));
  } catch (error) {
    load.failures.push(messageOf(error));
  } finally {
    ending.abort();
    for (const replica of replicas) await replica[Symbol.asyncDispose]();
  }
  for (const failure of load.failures) process.stdout.write(`FAILED ${failure}\n`);
  process.stdout.write(
    `${JSON.stringify({ suite: 'replicas', rounds, ...load.figures, failures: load.failures.length })}\n`,
  );
  return load.failures.length === 0 ? 0 : 1;
}

function portOf(child: CrashChild): number {
  return Number(new URL(child.url).port);
}

function placeOf(base: CrashPlace, n: number): CrashPlace {
  // Signing keys belong to all of them: every replica has the same folder of keys, none the same data directory.
  return { ...base, data: join(base.data, `replica-${n}`), keys: join(base.data, 'keys'), shared: true };
}

async function startReplica(place: CrashPlace, collect: boolean): Promise<CrashChild> {
  const child = new CrashChild();
  await child.open(place);
  await child.work({ collect });
  return child;
}

/** Two writers and three readers. */
class Load {
  readonly #url: string;
  readonly #token: () => string;
  readonly #accepted: TestPath[] = [];
  readonly failures: string[] = [];
  readonly figures = { reads: 0, resumedReads: 0, accepted: 0, refused: 0, repeatedPushes: 0 };
  #count = 0;

  constructor(url: string, token: () => string) {
    this.#url = url;
    this.#token = token;
  }

  async run(signal: AbortSignal): Promise<void> {
    const until = async (work: () => Promise<void>): Promise<void> => {
      while (!signal.aborted) await work().catch((error: unknown) => this.failures.push(messageOf(error)));
    };
    const write = async (): Promise<void> => await this.#write();
    const read = async (): Promise<void> => await this.#read();
    await Promise.all([until(write), until(write), until(read), until(read), until(read)]);
  }

  async assertAllThere(): Promise<void> {
    for (const path of this.#accepted) await this.#assertServed(path);
  }

  /** Pushes again what was cut off or refused, as a job does: nothing of it may be half there. */
  async #write(): Promise<void> {
    const n = this.#count++;
    const shared = noise(150_000, `shared ${n % 5}`);
    const path = await testPath(`replica-${n}`, Buffer.concat([noise(20_000, `own ${n}`), shared]));
    for (let attempt = 1; attempt <= 10; attempt++) {
      const status = await this.#push(path);
      if (status === 200) {
        this.#accepted.push(path);
        this.figures.accepted++;
        return;
      }
      this.figures.repeatedPushes++;
      await sleep(300 * attempt);
    }
    this.figures.refused++;
    this.failures.push(`${path.storePath} was not accepted in ten attempts`);
  }

  /** 0 when the connection broke. */
  async #push(path: TestPath): Promise<number> {
    const client = new Uploader(`${this.#url}/main`, this.#token());
    try {
      const nar = await client.put(path.url, path.file);
      if (nar.status !== 200) return nar.status;
      return (await client.put(`${path.hash}.narinfo`, narInfo(path))).status;
    } catch {
      return 0;
    }
  }

  async #read(): Promise<void> {
    const path = this.#accepted[Math.floor(Math.random() * this.#accepted.length)];
    if (path === undefined) return await sleep(50);
    await this.#assertServed(path);
  }

  async #assertServed(path: TestPath): Promise<void> {
    const narinfo = await downloadAsNix(`${this.#url}/main/${path.hash}.narinfo`);
    assert.equal(narinfo.status, 200, `${path.storePath} is lost`);
    const text = narinfo.body.toString();
    const url = /^URL: (\S+)$/m.exec(text)?.[1]?.replace(/\.zst$/, '') ?? '';
    const nar = await downloadAsNix(`${this.#url}/main/${url}`);
    assert.equal(nar.status, 200, `the NAR of ${path.storePath} is lost`);
    const hash = formatBase32(createHash('sha256').update(nar.body).digest());
    assert.equal(
      hash,
      /^NarHash: sha256:(\S+)$/m.exec(text)?.[1],
      `${path.storePath} is not what its narinfo says`,
    );
    this.figures.reads++;
    if (narinfo.attempts + nar.attempts > 2) this.figures.resumedReads++;
  }
}

process.exitCode = await runSuite(Number(values.rounds), Number(values.seconds) * 1000);
