// The ways to bring a new system to hosts, each with what it cost.
import { join } from 'node:path';
import type { RunEvent } from '../src/api/run-events.ts';
import type { BenchFleet } from './deploy-fleet.ts';

export interface Cost {
  /** The whole command, from its start to its end. */
  readonly ms: number;
  /** From the first word to the first host to the end of the last. */
  readonly rolloutMs: number;
  /** Of that: copying, activating, making it the boot default. The longest host's. */
  readonly outsideMs: number;
  /** CPU of the command with all that it started here, and of the hosts. */
  readonly clientCpuMs: number;
  readonly hostCpuMs: number;
}

/** bash's `time` counts children that were waited for, whatever they do with their output. */
const TIMED = 'TIMEFORMAT="cpu %U %S"; time "$@"';

export async function deployBySlipway(fleet: BenchFleet, names: readonly string[]): Promise<Cost> {
  await fleet.next(names);
  const { world, folder } = fleet;
  const args = ['--flake', `path:${folder}`, '--json', '--events', '--concurrency', String(names.length)];
  const ran = await timed(fleet, names, [join(world.repository, 'bin/slipway'), 'deploy', ...names, ...args]);
  const events = ran.stdout
    .split('\n')
    .filter((line) => line.startsWith('{"kind"'))
    .map((line) => JSON.parse(line) as RunEvent);
  const hostEvents = events.filter(({ kind }) => kind === 'host').map(({ at }) => Date.parse(at));
  const spans = names.map((name) =>
    events
      .filter((event) => event.kind === 'span')
      .filter((event) => ['copy', 'activate', 'commit'].some((what) => event.name === `${what} ${name}`))
      .reduce((sum, event) => sum + (event.kind === 'span' ? event.ms : 0), 0),
  );
  const rolloutMs = Math.max(...hostEvents) - Math.min(...hostEvents);
  return { ...ran.cost, rolloutMs, outsideMs: Math.max(...spans) };
}

/** What stands in many a Makefile. */
export async function deployByHand(fleet: BenchFleet, names: readonly string[]): Promise<Cost> {
  const systems = await fleet.next(names);
  const lines = names.map((name) => {
    const to = `root@${fleet.world.host(name).address}`;
    const path = systems.get(name) ?? '';
    const activate = `nix-env -p /nix/var/nix/profiles/system --set ${path} && ${path}/bin/switch-to-configuration switch`;
    return `nix copy --to ssh://${to} ${path} && ssh ${to} '${activate}'`;
  });
  const ran = await timed(fleet, names, ['sh', '-ec', lines.join('\n')]);
  return { ...ran.cost, rolloutMs: ran.cost.ms, outsideMs: ran.cost.ms };
}

/** Undefined without deploy-rs. */
export async function deployByRs(fleet: BenchFleet, names: readonly string[]): Promise<Cost | undefined> {
  if (process.env['SLIPWAY_DEPLOY_RS'] === undefined) return undefined;
  await fleet.next(names);
  const targets = names.map((name) => `path:${fleet.folder}#${name}.system`);
  const argv = [join(fleet.folder, 'rs/deploy'), '--skip-checks', '--targets', ...targets];
  const ran = await timed(fleet, names, argv);
  return { ...ran.cost, rolloutMs: ran.cost.ms, outsideMs: ran.cost.ms };
}

async function timed(
  fleet: BenchFleet,
  names: readonly string[],
  argv: readonly string[],
): Promise<{ readonly stdout: string; readonly cost: Pick<Cost, 'ms' | 'clientCpuMs' | 'hostCpuMs'> }> {
  const before = await fleet.cpuOf(names);
  const started = performance.now();
  const result = await fleet.world.run(['bash', '-c', TIMED, 'bash', ...argv]);
  const ms = performance.now() - started;
  const hostCpuMs = (await fleet.cpuOf(names)) - before;
  if (result.code !== 0)
    throw new Error(`${argv[0]} ended with ${result.code}: ${result.stdout.toString()}${result.stderr}`);
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(result.stderr) ?? [];
  const clientCpuMs = Math.round((Number(user) + Number(system)) * 1000);
  return { stdout: result.stdout.toString(), cost: { ms, clientCpuMs, hostCpuMs } };
}
