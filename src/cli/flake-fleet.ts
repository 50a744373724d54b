// A flake as the user names it (`.`, a path, a URL): its hosts, and their toplevels built on this machine. Dirty work
// trees are allowed here; what is released goes through `slipway ci run` instead.
import * as z from 'zod/mini';
import { exec } from '../effects/exec.ts';
import type { Nix } from '../effects/nix-cli.ts';
import { parseNixError } from '../effects/nix-error.ts';
import { type FleetFacts, parseFleetFacts } from '../pipeline/fleet-facts.ts';
import { mapBounded } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';
import { evaluateAttribute } from './flake-evaluation.ts';

/** Builds at a time; what they share is built once. */
const BUILD_JOBS = 4;
const BUILD_TIMEOUT_MS = 6 * 3_600_000;

/** What a flake says of its hosts; parsed when it is asked for, because a deploy-rs flake needs none of it. */
export interface FlakeFleet {
  /** Whether there is a `slipway` output. */
  readonly described: boolean;
  readonly read: () => FleetFacts;
}

export async function readFlakeFleet(
  nix: Nix,
  flake: string,
  cwd: string,
  signal: AbortSignal,
): Promise<FlakeFleet> {
  const read = async (attribute: string, apply: string): Promise<unknown> =>
    await evaluateAttribute({ nix, flake, attribute, apply, cwd, signal });
  const [hosts, slipway] = await Promise.all([
    read('nixosConfigurations', 'builtins.attrNames'),
    read('slipway', 'x: x'),
  ]);
  const fleet = { hosts: hosts ?? [], slipway: slipway ?? null, nodes: {} };
  return { described: slipway !== undefined, read: () => parseFleetFacts(fleet) };
}

export interface BuildOptions {
  readonly cwd: string;
  readonly signal: AbortSignal;
  readonly onLine: (line: string) => void;
}

/**
 * Builds the hosts' toplevels; the answer keeps their order. One `nix build` a host: for several installables Nix
 * answers in an order of its own.
 */
export async function buildToplevels(
  nix: Nix,
  flake: string,
  hosts: readonly string[],
  options: BuildOptions,
): Promise<string[]> {
  return await mapBounded(hosts, BUILD_JOBS, async (host) => await buildToplevel(nix, flake, host, options));
}

async function buildToplevel(nix: Nix, flake: string, host: string, options: BuildOptions): Promise<string> {
  const installable = `${flake}#nixosConfigurations."${host}".config.system.build.toplevel`;
  const result = await exec(['nix', 'build', '--no-link', '--json', installable], {
    env: nix.env,
    cwd: options.cwd,
    signal: options.signal,
    timeoutMs: BUILD_TIMEOUT_MS,
    onStderrLine: options.onLine,
  });
  if (result.code !== 0) throw buildFailed(host, installable, result.stderr);
  const [built] = JSON.parse(result.stdout.toString('utf8')) as {
    readonly outputs?: { readonly out?: string };
  }[];
  if (built?.outputs?.out !== undefined) return built.outputs.out;
  throw new SlipwayError('build_failed', `Nix named no output for ${host}.`);
}

/** Builds derivations that an evaluation has named. */
export async function realise(
  nix: Nix,
  derivations: readonly string[],
  options: BuildOptions & { readonly what: string },
): Promise<void> {
  const result = await exec(['nix-store', '--realise', ...derivations], {
    env: nix.env,
    cwd: options.cwd,
    signal: options.signal,
    timeoutMs: BUILD_TIMEOUT_MS,
    onStderrLine: options.onLine,
  });
  if (result.code !== 0) throw buildFailed(options.what, derivations.join(' '), result.stderr);
}

/** The toplevel's path and derivation, unbuilt: for a build somewhere else. */
export async function findDerivations(
  nix: Nix,
  flake: string,
  host: string,
  { cwd, signal }: Pick<BuildOptions, 'cwd' | 'signal'>,
): Promise<{ readonly path: string; readonly build: readonly string[] }> {
  const attribute = `nixosConfigurations."${host}".config.system.build.toplevel`;
  const apply = 'x: { path = x.outPath; build = [ x.drvPath ]; }';
  const value = await evaluateAttribute({ nix, flake, attribute, apply, cwd, signal });
  return derivations.parse(value);
}

const derivations = z.object({ path: z.string(), build: z.array(z.string()) });

function buildFailed(host: string, installable: string, stderr: string): SlipwayError {
  const { message, detail } = parseNixError(stderr);
  return new SlipwayError('build_failed', `Building ${host} failed: ${message}`, {
    next: `Repeat it with: nix build -L '${installable}'`,
    facts: { detail },
  });
}
