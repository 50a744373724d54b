// A real PostgreSQL of Debian's package on a unix socket in a folder of its own: no port, no system cluster touched.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execText } from '../../src/effects/exec.ts';
import { deadline, sleep } from '../../src/util/deadline.ts';

const VERSIONS = '/usr/lib/postgresql';

export interface PostgresServer extends AsyncDisposable {
  /** Makes an empty database and names it. */
  createDatabase(): Promise<string>;
  /** Ends every process of it at once, as a crash would, and starts it again. */
  crash(): Promise<void>;
}

export async function openPostgresServer(): Promise<PostgresServer> {
  const bin = join(VERSIONS, (await readdir(VERSIONS)).toSorted().at(-1) ?? '', 'bin');
  const folder = await mkdtemp(join(tmpdir(), 'slipway-pg-'));
  const prefix = await asServerUser(folder);
  const data = join(folder, 'data');
  await execText([
    ...prefix,
    `${bin}/initdb`,
    '-A',
    'trust',
    '-U',
    'slipway',
    '--no-sync',
    '-E',
    'UTF8',
    '-D',
    data,
  ]);
  let daemon = await start(prefix, bin, folder);
  let made = 0;
  return {
    createDatabase: async () => {
      const name = `test${++made}`;
      await execText([...prefix, `${bin}/createdb`, '-h', folder, '-U', 'slipway', '-T', 'template0', name]);
      return `postgres://slipway@/${name}?host=${encodeURIComponent(folder)}`;
    },
    crash: async () => {
      await stop(daemon);
      daemon = await start(prefix, bin, folder);
    },
    [Symbol.asyncDispose]: async () => {
      await stop(daemon);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** PostgreSQL refuses to run as root: root becomes `postgres`, everybody else stays who they are. */
async function asServerUser(folder: string): Promise<string[]> {
  const dieWithTheTest = ['setpriv', '--pdeathsig', 'KILL'];
  if (process.getuid?.() !== 0) return dieWithTheTest;
  const [uid = '', gid = ''] = (await execText(['sh', '-c', 'id -u postgres && id -g postgres']))
    .trim()
    .split('\n');
  await chown(folder, Number(uid), Number(gid));
  return [...dieWithTheTest, `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
}

async function start(prefix: readonly string[], bin: string, folder: string): Promise<ChildProcess> {
  const settings = [
    'listen_addresses=',
    `unix_socket_directories=${folder}`,
    'max_connections=60',
    'fsync=off',
  ];
  const args = [...prefix.slice(1), `${bin}/postgres`, '-D', join(folder, 'data')];
  const daemon = spawn('setpriv', [...args, ...settings.flatMap((setting) => ['-c', setting])], {
    stdio: 'ignore',
    cwd: '/',
  });
  const signal = deadline(30_000);
  const ready = async (): Promise<boolean> =>
    await execText([...prefix, `${bin}/pg_isready`, '-q', '-h', folder]).then(
      () => true,
      () => false,
    );
  while (!(await ready())) await sleep(20, signal);
  return daemon;
}

/** SIGQUIT is PostgreSQL's immediate shutdown: no checkpoint, recovery at the next start. */
async function stop(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null || daemon.signalCode !== null) return;
  const ended = once(daemon, 'exit');
  daemon.kill('SIGQUIT');
  await ended;
}
