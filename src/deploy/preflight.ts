// All that can be said about a deploy before anything changes: what differs, what it costs, what stands in its way.
// Reads only; the unit diff needs the closure on the host, so it is there once that was copied.
import { execText } from '../effects/exec.ts';
import type { Host } from '../effects/host.ts';
import { queryRequisites, readClosureFacts, readMissingSize } from './closure-facts.ts';
import type { DeployPlan } from './deploy-plan.ts';
import type { DeployRequest } from './deploy-request.ts';
import { planWith } from './deploy-to-host.ts';
import { type ClosureDiff, diffClosures } from './diff-closures.ts';
import { type DeployHostFacts, readHostFacts } from './host-facts.ts';
import { parseDryActivate, type UnitDiff } from './parse-dry-activate.ts';

export interface Preflight {
  readonly plan: DeployPlan;
  readonly facts: DeployHostFacts;
  readonly closure: ClosureDiff;
  /** Bytes (unpacked) of the paths that the host lacks. */
  readonly missingBytes: number;
  /** Undefined: the closure is not on the host yet. */
  readonly units: UnitDiff | undefined;
  /** Parts that only a boot can change and that differ from the booted ones (`kernel`, `initrd`, …). */
  readonly rebootFor: readonly string[];
}

const QUERY_TIMEOUT_MS = 60_000;
const DRY_TIMEOUT_MS = 120_000;

export async function readPreflight(host: Host, request: DeployRequest): Promise<Preflight> {
  const { toplevel, profile } = request;
  const [facts, closure, after] = await Promise.all([
    readHostFacts(host, toplevel, profile),
    readClosureFacts(toplevel),
    queryRequisites(toplevel),
  ]);
  const inForce = profile === undefined ? facts.current : facts.profile;
  const [before, missingBytes, units, rebootFor, plan] = await Promise.all([
    readRequisites(host, inForce),
    facts.valid ? 0 : readMissingSize(host, toplevel),
    facts.valid ? readUnitDiff(host, request) : undefined,
    profile === undefined ? readRebootParts(host, toplevel) : [],
    planWith(host, request, { facts, closure }),
  ]);
  return { plan, facts, closure: diffClosures(before, after), missingBytes, units, rebootFor };
}

/** The closure's paths as the host knows them; none when it does not have it. */
export async function readRequisites(host: Host, path: string): Promise<string[]> {
  if (path === '') return [];
  const result = await host.run(['nix-store', '--query', '--requisites', path], {
    timeoutMs: QUERY_TIMEOUT_MS,
  });
  return result.code === 0 ? nonEmptyLines(result.stdout.toString('utf8')) : [];
}

async function readUnitDiff(host: Host, { toplevel, profile }: DeployRequest): Promise<UnitDiff | undefined> {
  if (profile !== undefined) return undefined;
  const argv = [`${toplevel}/bin/switch-to-configuration`, 'dry-activate'];
  const result = await host.run(argv, { timeoutMs: DRY_TIMEOUT_MS });
  return result.code === 0
    ? parseDryActivate(`${result.stdout.toString('utf8')}\n${result.stderr}`)
    : undefined;
}

/** Names each part with its content: the same script on both sides. */
const PARTS = `for part in kernel initrd kernel-modules kernel-params; do
  file=$(readlink -f "$1/$part") || continue
  if [ -f "$file" ]; then echo "$part $(sha256sum <"$file")"; elif [ -e "$file" ]; then echo "$part $file"; fi
done`;

async function readRebootParts(host: Host, toplevel: string): Promise<string[]> {
  const [booted, next] = await Promise.all([
    host.run(partsOf('/run/booted-system'), { timeoutMs: QUERY_TIMEOUT_MS }),
    execText(partsOf(toplevel), { timeoutMs: QUERY_TIMEOUT_MS }),
  ]);
  const before = new Set(nonEmptyLines(booted.stdout.toString('utf8')));
  const changed = nonEmptyLines(next).filter((line) => !before.has(line));
  return before.size === 0 ? [] : changed.map((line) => line.split(' ', 1)[0] ?? '');
}

function partsOf(root: string): string[] {
  return ['sh', '-c', PARTS, 'sh', root];
}

function nonEmptyLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
