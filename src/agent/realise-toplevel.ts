// Brings a release's toplevel into this host's store: from the caches without evaluating anything; or, when CI could
// not build it (`deferred`), by evaluating and building the release commit here, for exactly the promised path.
import { mkdir, rm, symlink } from 'node:fs/promises';
import path from 'node:path';
import type { AgentConfig } from '../api/agent-config.ts';
import { evaluateNix, findInvalidPaths, openNix, realisePaths, type Nix } from '../effects/nix-cli.ts';
import { parseNixError } from '../effects/nix-error.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Candidate } from './release-facts.ts';

export interface RealiseContext {
  readonly config: AgentConfig;
  /** The bare mirror that holds the release commit. */
  readonly mirror: string;
  readonly signal: AbortSignal;
  /** Called when the host has to build by itself. */
  readonly onBuild: () => Promise<void>;
}

/** Keeps the toplevel from the garbage collector until the trial has its own root. */
const NEXT_ROOT = '/nix/var/nix/gcroots/slipway/agent-next';
const MAX_SAID = 20;

/**
 * Resolves when the toplevel is valid in the local store. `unavailable`: no cache has it (now); `evaluation_failed`,
 * `build_failed`: the release cannot be built here; `conflict`: it builds to another path than was signed.
 */
export async function realiseToplevel(candidate: Candidate, context: RealiseContext): Promise<void> {
  const { toplevel } = candidate.release;
  const nix = nixFor(candidate, context.config);
  await setNextRoot(toplevel);
  if (await isValid(nix, toplevel, context.signal)) return;
  const said = await realise(nix, toplevel, context.config.timeouts.realise, context.signal);
  if (await isValid(nix, toplevel, context.signal)) return;
  if (candidate.entry.state !== 'deferred') throw notInCaches(candidate, said);
  await context.onBuild();
  await buildHere(nix, candidate, context);
}

/** Lets the garbage collector have what was realised: the trial is over, or has roots of its own. */
export async function dropNextRoot(): Promise<void> {
  await rm(NEXT_ROOT, { force: true });
}

/** The configured caches and those of the signed manifest: whoever may name the toplevel may name where it is. */
export function cachesOf(candidate: Candidate, config: AgentConfig): { url: string; publicKeys: string[] }[] {
  return [...config.caches, ...candidate.manifest.caches];
}

function nixFor(candidate: Candidate, config: AgentConfig): Nix {
  const caches = cachesOf(candidate, config);
  return openNix({
    substituters: [...new Set(caches.map((cache) => cache.url))],
    trustedPublicKeys: [...new Set(caches.flatMap((cache) => cache.publicKeys))],
    ...(config.netrcFile !== undefined && { netrcFile: config.netrcFile }),
    // Nix remembers for an hour that a cache lacks a path; an agent that asked too early must not wait so long.
    extra: { 'narinfo-cache-negative-ttl': '0' },
  });
}

async function setNextRoot(toplevel: string): Promise<void> {
  await mkdir(path.dirname(NEXT_ROOT), { recursive: true });
  await rm(NEXT_ROOT, { force: true });
  await symlink(toplevel, NEXT_ROOT);
}

async function isValid(nix: Nix, toplevel: string, signal: AbortSignal): Promise<boolean> {
  const invalid = await findInvalidPaths(nix, [toplevel], signal);
  return invalid.size === 0;
}

/** Realises a path or derivation and returns the last errors that Nix reported, if any. */
async function realise(nix: Nix, target: string, seconds: number, signal: AbortSignal): Promise<string> {
  const said: string[] = [];
  await realisePaths(nix, [target], {
    timeoutMs: seconds * 1000,
    signal,
    onLine: (line) => {
      const message = errorMessage(line);
      if (message !== undefined && said.push(message) > MAX_SAID) said.shift();
    },
  });
  return said.length === 0 ? 'no cache has it' : parseNixError(said.join('\n')).message;
}

/** The text of a level-0 message event, or of a plain line; other events say nothing about a failure. */
function errorMessage(line: string): string | undefined {
  if (!line.startsWith('@nix ')) return line;
  if (!line.includes('"action":"msg"') || !line.includes('"level":0')) return undefined;
  const event: unknown = JSON.parse(line.slice('@nix '.length));
  return typeof event === 'object' && event !== null && 'msg' in event ? String(event.msg) : undefined;
}

function notInCaches(candidate: Candidate, said: string): SlipwayError {
  const { toplevel, serial } = candidate.release;
  return new SlipwayError('unavailable', `No cache gave ${toplevel} of release ${serial}: ${said}.`, {
    next: 'Check that the caches in the manifest are reachable from this host and that their public keys are trusted.',
  });
}

async function buildHere(nix: Nix, candidate: Candidate, context: RealiseContext): Promise<void> {
  const { toplevel } = candidate.release;
  const found = await evaluateToplevel(nix, candidate, context);
  if (found.out !== toplevel) {
    throw new SlipwayError(
      'conflict',
      `The release was signed for ${toplevel}, but this host evaluates it to ${found.out}.`,
      { next: 'Evaluate the release commit on both machines and compare: an input is not pinned.' },
    );
  }
  const said = await realise(nix, found.drv, context.config.timeouts.build, context.signal);
  if (await isValid(nix, toplevel, context.signal)) return;
  throw new SlipwayError('build_failed', `Building ${found.drv} on this host failed: ${said}.`, {
    next: `See "nix-store --read-log ${found.drv}".`,
  });
}

async function evaluateToplevel(
  nix: Nix,
  candidate: Candidate,
  context: RealiseContext,
): Promise<{ readonly drv: string; readonly out: string }> {
  const index = context.config.remotes.findIndex((remote) => remote.url === candidate.url);
  const ref = `refs/remotes/r${index}/${candidate.manifest.branch}`;
  const flake = `git+file://${context.mirror}?ref=${ref}&rev=${candidate.release.commit}`;
  const host = JSON.stringify(context.config.host);
  const top = `(builtins.getFlake ${JSON.stringify(flake)}).nixosConfigurations.${host}.config.system.build.toplevel`;
  const { signal } = context;
  const timeoutMs = context.config.timeouts.build * 1000;
  const answer = await evaluateNix(nix, `let t = ${top}; in { drv = t.drvPath; out = t.outPath; }`, {
    timeoutMs,
    signal,
  });
  const { drv, out } = answer as { drv: unknown; out: unknown };
  return { drv: String(drv), out: String(out) };
}
