// What a forge must hold for the two-branch model, and what it lacks: only the pipeline writes releases, nobody rewrites or
// deletes them, and the source is reviewed. Pure.
import { manifestBranch } from '../api/manifest.ts';
import type { BranchProtection } from '../effects/forge.ts';

export interface ProtectedBranch {
  readonly branch: string;
  readonly role: 'release' | 'source';
}

export interface ProtectionFinding {
  readonly branch: string;
  readonly state: 'ok' | 'warn' | 'bad';
  readonly message: string;
}

/** Every branch that wants rules. Testing branches may be deleted and are not asked for. */
export function protectedBranches(release: string, source: string): readonly ProtectedBranch[] {
  return [
    { branch: release, role: 'release' },
    { branch: manifestBranch(release), role: 'release' },
    { branch: source, role: 'source' },
  ];
}

export function judgeProtection(
  { branch, role }: ProtectedBranch,
  protection: BranchProtection,
): ProtectionFinding[] {
  const bad = (message: string): ProtectionFinding => ({ branch, state: 'bad', message });
  const findings: ProtectionFinding[] = [];
  if (protection.forcePush === 'allowed') findings.push(bad('its history can be rewritten (force-push)'));
  if (protection.deletion === 'allowed') findings.push(bad('it can be deleted'));
  if (role === 'release') findings.push(...judgePushers(branch, protection.pushers));
  else if (protection.reviews === 0)
    findings.push({
      branch,
      state: 'warn',
      message: 'no review is required: whoever pushes decides what runs as root',
    });
  if (findings.length > 0) return findings;
  const who = protection.pushers === 'everybody' ? 'every writer' : protection.pushers.join(', ');
  return [
    { branch, state: 'ok', message: role === 'release' ? `only ${who} may push` : 'protected and reviewed' },
  ];
}

function judgePushers(branch: string, pushers: BranchProtection['pushers']): ProtectionFinding[] {
  if (pushers === 'everybody')
    return [{ branch, state: 'bad', message: 'everybody who may write to the repository may push to it' }];
  if (pushers.length === 0)
    return [
      {
        branch,
        state: 'warn',
        message: 'nobody may push to it, as far as the token sees: not even the pipeline',
      },
    ];
  if (pushers.length === 1) return [];
  return [{ branch, state: 'warn', message: `more than the pipeline may push to it: ${pushers.join(', ')}` }];
}
