// A preflight for people: a few lines a host.
import type { PackageChange } from '../deploy/diff-closures.ts';
import type { UnitDiff } from '../deploy/parse-dry-activate.ts';
import type { Preflight } from '../deploy/preflight.ts';
import type { CliIo } from './cli-io.ts';
import { formatBytes, makeStyle } from './style.ts';

const MOST_PACKAGES = 20;

export function formatPreflight(
  io: Pick<CliIo, 'color'>,
  {
    host,
    toplevel,
    preflight,
  }: { readonly host: string; readonly toplevel: string; readonly preflight: Preflight },
): string {
  const style = makeStyle(io.color);
  const { plan } = preflight;
  if (plan.kind === 'unchanged') return `${host}: runs ${toplevel} already\n`;
  if (plan.kind === 'refuse') return `${host}: would refuse (${plan.reason}): ${plan.detail}\n`;
  const lines = [
    `${style.bold(host)}: would ${plan.copy ? 'copy and ' : ''}try ${toplevel}`,
    ...packageLines(preflight.closure.changes),
    `  paths: ${preflight.closure.added} new, ${preflight.closure.removed} no longer used; ${formatBytes(preflight.missingBytes)} to copy`,
    ...unitLines(preflight.units),
    ...wayLines(preflight).map((line) => style.warn(`  ${line}`)),
    `  free: ${formatBytes(preflight.facts.storeFreeBytes)} in the store, ${formatBytes(preflight.facts.bootFreeBytes)} in /boot`,
    ...plan.notes.map((note) => style.warn(`  ${note}`)),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

export function packageLines(changes: readonly PackageChange[], most = MOST_PACKAGES): string[] {
  const shown = changes.slice(0, most).map(({ name, before, after }) => {
    if (before.length === 0) return `  + ${name} ${after.join(', ')}`;
    if (after.length === 0) return `  - ${name} ${before.join(', ')}`;
    return `  ~ ${name} ${before.join(', ')} -> ${after.join(', ')}`;
  });
  const more = changes.length - shown.length;
  return more > 0 ? [...shown, `  and ${more} packages more`] : shown;
}

function unitLines(units: UnitDiff | undefined): string[] {
  if (units === undefined) return ['  units: known when it is copied; --dry-activate copies it and asks'];
  const lists = Object.entries(units).filter(([, names]: [string, readonly string[]]) => names.length > 0);
  if (lists.length === 0) return ['  units: none is touched'];
  return lists.map(([what, names]: [string, readonly string[]]) => `  ${what}: ${names.join(', ')}`);
}

function wayLines({ way, facts }: Preflight): string[] {
  if (way.way === 'refuse') return [`would be refused (${way.reason}): ${way.detail}`];
  if (way.notes.length === 0 || way.way === 'boot-trial') return [...way.notes];
  const bare = facts.bootProtection === 'none' ? [`no boot-level protection: ${facts.noBootProtection}`] : [];
  return [...way.notes, ...bare];
}
