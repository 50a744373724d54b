// The secrets commands' answers for people: tables of files, readers and reasons.
import { formatGrants } from '../secrets/grant-approval.ts';
import type { GrantPlan } from '../secrets/grant-plan.ts';
import type { SecretsPlan } from '../secrets/plan-secrets.ts';
import type { RekeyItem, RekeyPlan, RekeyReason } from '../secrets/rekey-plan.ts';
import type { SecretProblem } from '../secrets/secret-problem.ts';
import { formatTable, makeStyle, stripControl, type Style } from './style.ts';

const REASONS: Readonly<Record<RekeyReason, string>> = {
  unchanged: 'nothing changed',
  stale: 'its host could not be evaluated',
  new: 'not released before',
  recipients: 'its readers changed',
  source: 'its source changed',
  altered: 'the released file is not ours',
};

/** One row a file: who reads it on the release branch, and what a release would do. */
export function formatPlan(plan: RekeyPlan, color: boolean): string {
  const style = makeStyle(color);
  const rows = plan.items.map((item) => [
    item.action === 'rekey' ? style.warn('re-key') : style.good('keep'),
    style.bold(stripControl(item.path)),
    REASONS[item.reason],
    formatReaders(item, style),
  ]);
  const removed = plan.remove.map((path) => [
    style.dim('leave out'),
    stripControl(path),
    style.dim('no host uses it'),
    '',
  ]);
  const all = [...rows, ...removed];
  return all.length === 0 ? 'No host uses a secret.\n' : formatTable(all);
}

/** One row a file: its readers on the release branch. */
export function formatList(plan: RekeyPlan, color: boolean): string {
  const style = makeStyle(color);
  const rows = plan.items.map((item) => [style.bold(stripControl(item.path)), hostsOf(item).join(' ')]);
  const unused = plan.remove.map((path) => [stripControl(path), style.dim('no host')]);
  const all = [...rows, ...unused];
  return all.length === 0 ? 'There are no secrets.\n' : formatTable(all);
}

/** What the release would give beyond the last one, and how that is approved; empty when it gives nothing new. */
export function formatGrantDiff(grants: GrantPlan, color: boolean): string {
  const style = makeStyle(color);
  const lines = grants.recorded ? formatGrants(grants) : [];
  const shown = lines.map((line) =>
    line.startsWith('-') ? style.good(stripControl(line)) : style.warn(stripControl(line)),
  );
  const ask = [
    `This needs approval: slipway secrets approve --key KEY, or slipway ci run --approve-grants ${grants.digest}`,
  ];
  return [...shown, ...(grants.needsApproval ? ask : [])].map((line) => `${line}\n`).join('');
}

export function formatProblems(problems: readonly SecretProblem[], color: boolean): string {
  const style = makeStyle(color);
  return problems.map((problem) => formatProblem(style.bad('problem'), problem, style)).join('');
}

export function formatWarnings(warnings: readonly SecretProblem[], color: boolean): string {
  const style = makeStyle(color);
  return warnings.map((warning) => formatProblem(style.warn('warning'), warning, style)).join('');
}

function formatProblem(mark: string, { message, next }: SecretProblem, style: Style): string {
  const step = next === undefined ? '' : `\n  ${style.accent(stripControl(next))}`;
  return `${mark} ${stripControl(message)}${step}\n`;
}

export function planJson(plan: SecretsPlan): Record<string, unknown> {
  return {
    secrets: plan.items.map((item) => ({
      path: item.path,
      action: item.action,
      reason: item.reason,
      hosts: hostsOf(item),
      granted: item.granted,
      revoked: item.revoked,
    })),
    leftOut: plan.remove,
    grants: {
      increases: plan.grants.increases,
      decreases: plan.grants.decreases,
      needsApproval: plan.grants.needsApproval,
      digest: plan.grants.digest,
    },
    warnings: plan.warnings,
    problems: plan.problems,
  };
}

function hostsOf(item: RekeyItem): string[] {
  return [...new Set(item.recipients.map((one) => one.host))];
}

function formatReaders(item: RekeyItem, style: Style): string {
  const granted = item.granted.map((host) => style.good(`+${host}`));
  const revoked = item.revoked.map((host) => style.bad(`-${host}`));
  return [...granted, ...revoked].join(' ');
}
