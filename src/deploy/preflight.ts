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
import { planSwitch, type SwitchPlan } from './plan-switch.ts';

export interface Preflight {
  readonly plan: DeployPlan;
  readonly facts: DeployHostFacts;
  readonly closure: ClosureDiff;
  /** Bytes (unpacked) of the paths that the host lacks. */
  readonly missingBytes: number;
  /** Undefined: the closure is not on the host yet. */
  readonly units: UnitDiff | undefined;
  /** Live or by a boot, and why. */
  readonly way: SwitchPlan;
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
  const [before, missingBytes, units, parts, plan] = await Promise.all([
    readRequisites(host, inForce),
    facts.valid ? 0 : readMissingSize(host, toplevel),
    facts.valid ? readUnitDiff(host, request) : undefined,
    profile !== undefined || facts.valid ? undefined : readBootParts(host, toplevel),
    planWith(host, request, { facts, closure }),
  ]);
  const way = planSwitch(request, { ...facts, ...parts });
  return { plan, facts, closure: diffClosures(before, after), missingBytes, units, way };
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
const PARTS = `for part in kernel initrd kernel-modules kernel-params switch-inhibitors init-interface-version; do
  root=$1; case $part in *-inhibitors | init-*) root=$2 ;; esac
  file=$(readlink -f "$root/$part") || continue
  if [ -f "$file" ]; then echo "$part $(sha256sum <"$file")"; elif [ -e "$file" ]; then echo "$part $file"; fi
done`;

/** For a toplevel that the host does not have yet: the kernel against what was booted, the rest against what runs. */
async function readBootParts(
  host: Host,
  toplevel: string,
): Promise<Pick<DeployHostFacts, 'rebootFor' | 'liveForbidden'>> {
  const [booted, next] = await Promise.all([
    host.run(partsOf('/run/booted-system', '/run/current-system'), { timeoutMs: QUERY_TIMEOUT_MS }),
    execText(partsOf(toplevel, toplevel), { timeoutMs: QUERY_TIMEOUT_MS }),
  ]);
  const before = new Set(nonEmptyLines(booted.stdout.toString('utf8')));
  const changed = nonEmptyLines(next).filter((line) => before.size > 0 && !before.has(line));
  const names = changed.map((line) => line.split(' ', 1)[0] ?? '');
  const forbids = names.filter((name) => !name.startsWith('kernel') && name !== 'initrd');
  return {
    rebootFor: names.filter((name) => !forbids.includes(name)),
    liveForbidden: forbids.length === 0 ? '' : `${forbids.join(' and ')} differ`,
  };
}

function partsOf(booted: string, running: string): string[] {
  return ['sh', '-c', PARTS, 'sh', booted, running];
}

function nonEmptyLines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
