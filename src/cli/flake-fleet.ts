// A flake as the user names it (`.`, a path, a URL): its hosts, and their toplevels built on this machine. Dirty work
// trees are allowed here; what is released goes through `slipway ci run` instead.
import { exec } from '../effects/exec.ts';
import type { Nix } from '../effects/nix-cli.ts';
import { parseNixError } from '../effects/nix-error.ts';
import { type FleetFacts, parseFleetFacts } from '../pipeline/fleet-facts.ts';
import { mapBounded } from '../util/concurrency.ts';
import { SlipwayError } from '../util/errors.ts';

const EVALUATE_TIMEOUT_MS = 600_000;
/** Builds at a time; what they share is built once. */
const BUILD_JOBS = 4;
const BUILD_TIMEOUT_MS = 6 * 3_600_000;
const NODES = '_: { hostname = _.hostname or null; user = _.sshUser or null; }';

export async function readFlakeFleet(
  nix: Nix,
  flake: string,
  cwd: string,
  signal: AbortSignal,
): Promise<FleetFacts> {
  const read = async (attribute: string, apply: string): Promise<unknown> =>
    await evaluateAttribute(nix, { flake, attribute, apply, cwd, signal });
  const [hosts, slipway] = await Promise.all([
    read('nixosConfigurations', 'builtins.attrNames'),
    read('slipway', 'x: x'),
  ]);
  const nodes =
    slipway === undefined ? await read('deploy.nodes', `builtins.mapAttrs (${NODES})`) : undefined;
  return parseFleetFacts({ hosts: hosts ?? [], slipway: slipway ?? null, nodes: nodes ?? {} });
}

interface Evaluation {
  readonly flake: string;
  readonly attribute: string;
  readonly apply: string;
  readonly cwd: string;
  readonly signal: AbortSignal;
}

/** Undefined when the flake has no such output. */
async function evaluateAttribute(nix: Nix, what: Evaluation): Promise<unknown> {
  const argv = ['nix', 'eval', '--json', `${what.flake}#${what.attribute}`, '--apply', what.apply];
  const { cwd, signal } = what;
  const result = await exec(argv, { env: nix.env, cwd, signal, timeoutMs: EVALUATE_TIMEOUT_MS });
  if (result.code === 0) return JSON.parse(result.stdout.toString('utf8')) as unknown;
  if (/does not provide attribute/.test(result.stderr)) return undefined;
  const { message, detail } = parseNixError(result.stderr);
  throw new SlipwayError('evaluation_failed', `${what.flake} does not evaluate: ${message}`, {
    next: `Repeat it with: nix eval ${what.flake}#${what.attribute}`,
    facts: { detail },
  });
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

function buildFailed(host: string, installable: string, stderr: string): SlipwayError {
  const { message, detail } = parseNixError(stderr);
  return new SlipwayError('build_failed', `Building ${host} failed: ${message}`, {
    next: `Repeat it with: nix build -L '${installable}'`,
    facts: { detail },
  });
}
