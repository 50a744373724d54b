// A real S3 server on a free port of the loopback: s3rver from npm, which knows little of S3 and so stands for weak
// servers, or Versity's gateway, strict and complete, when SLIPWAY_VERSITYGW names its program (`make test-s3`).
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Options } from '../../src/storage/s3-client.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';

const GATEWAY = process.env['SLIPWAY_VERSITYGW'];

export interface S3Server extends AsyncDisposable {
  /** Makes an empty bucket; the options reach it. */
  createBucket(): Promise<S3Options>;
}

const CREDENTIALS = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
const REGION = 'us-east-1';

export async function openS3Server(): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-s3-'));
  await mkdir(join(folder, 'objects'));
  const port = await findFreePort();
  const daemon = GATEWAY === undefined ? startS3rver(folder, port) : startGateway(GATEWAY, folder, port);
  await untilOpen(port, daemon);
  const endpoint = `http://127.0.0.1:${port}`;
  const client = new S3Client({ endpoint, region: REGION, forcePathStyle: true, credentials: CREDENTIALS });
  let made = 0;
  return {
    createBucket: async () => {
      const bucket = `bucket${++made}`;
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      return {
        bucket,
        prefix: 'cache/',
        endpoint,
        region: REGION,
        pathStyle: true,
        credentials: CREDENTIALS,
      };
    },
    [Symbol.asyncDispose]: async () => {
      client.destroy();
      const runs = daemon.exitCode === null && daemon.signalCode === null;
      const ended = runs ? once(daemon, 'exit') : undefined;
      daemon.kill('SIGKILL');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Its page tokens are made with a cipher that OpenSSL 3 calls legacy. */
function startS3rver(folder: string, port: number): ChildProcess {
  const program = join(import.meta.dirname, '../../node_modules/s3rver/bin/s3rver.js');
  const args = [
    '--openssl-legacy-provider',
    program,
    '-d',
    join(folder, 'objects'),
    '-a',
    '127.0.0.1',
    '-p',
    `${port}`,
  ];
  return spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...args, '--silent'], {
    stdio: 'ignore',
  });
}

function startGateway(program: string, folder: string, port: number): ChildProcess {
  const { accessKeyId: access, secretAccessKey: secret } = CREDENTIALS;
  const args = [
    '--port',
    `127.0.0.1:${port}`,
    '--region',
    REGION,
    '--quiet',
    'posix',
    join(folder, 'objects'),
  ];
  const env = { ...process.env, ROOT_ACCESS_KEY: access, ROOT_SECRET_KEY: secret };
  return spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: 'ignore', env });
}

async function findFreePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

async function untilOpen(port: number, daemon: ChildProcess): Promise<void> {
  const signal = deadline(30_000);
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (open) return;
    if (daemon.exitCode !== null) throw new Error(`the S3 server ended with ${daemon.exitCode}`);
    await sleep(30, signal);
  }
}
