// `slipway doctor`: what this machine has of what Slipway needs, and the one thing to do about each gap.
import { statfs } from 'node:fs/promises';
import type { Command } from 'commander';
import { exec } from '../effects/exec.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { registerDoctorRelease } from './doctor-release.ts';
import { formatBytes, formatTable, makeStyle } from './style.ts';

interface Finding {
  readonly name: string;
  readonly state: 'ok' | 'warn' | 'missing';
  readonly found: string;
  readonly next?: string;
}

interface Tool {
  readonly name: string;
  readonly argv: readonly string[];
  readonly needed: string;
  readonly optional?: boolean;
}

const TOOLS: readonly Tool[] = [
  { name: 'nix', argv: ['nix', '--version'], needed: 'evaluating, building and copying' },
  { name: 'git', argv: ['git', '--version'], needed: 'reading sources and publishing releases' },
  { name: 'ssh', argv: ['ssh', '-V'], needed: 'push deploys' },
  { name: 'age', argv: ['age', '--version'], needed: 'plugin identities of editors only', optional: true },
];

const LOW_DISK_BYTES = 5e9;

export function registerDoctor(program: Command, io: CliIo): void {
  const doctor = program.command('doctor');
  registerDoctorRelease(doctor, io);
  doctor
    .description('Check what this machine has of what Slipway needs')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  slipway doctor')
    .action(async (options: { json?: boolean }) => {
      const findings = [...(await Promise.all(TOOLS.map(findTool))), await findFlakes(), await findDisk()];
      io.stdout(options.json === true ? `${JSON.stringify({ findings })}\n` : render(io, findings));
      const missing = findings.filter((finding) => finding.state === 'missing');
      if (missing.length > 0) throw doctorFailure(missing);
    });
}

async function findTool(tool: Tool): Promise<Finding> {
  try {
    const { stdout, stderr } = await exec(tool.argv, { timeoutMs: 10_000 });
    return { name: tool.name, state: 'ok', found: firstLine(stdout.toString() || stderr) };
  } catch {
    return {
      name: tool.name,
      state: tool.optional === true ? 'warn' : 'missing',
      found: `not found; needed for ${tool.needed}`,
      next: `Install ${tool.name}.`,
    };
  }
}

async function findFlakes(): Promise<Finding> {
  const name = 'flakes';
  try {
    const { code } = await exec(['nix', 'eval', '--expr', '1'], { timeoutMs: 10_000 });
    if (code === 0) return { name, state: 'ok', found: 'enabled' };
    return { name, state: 'ok', found: 'off in nix.conf; Slipway turns them on for its own calls' };
  } catch {
    return { name, state: 'warn', found: 'not checked: nix is missing' };
  }
}

async function findDisk(): Promise<Finding> {
  const facts = await statfs('/nix/store').catch(() => statfs('/'));
  const free = facts.bavail * facts.bsize;
  const found = `${formatBytes(free)} free for the store`;
  if (free >= LOW_DISK_BYTES) return { name: 'disk', state: 'ok', found };
  return {
    name: 'disk',
    state: 'warn',
    found,
    next: 'Free some space: nix-collect-garbage --delete-older-than 14d',
  };
}

function render(io: CliIo, findings: readonly Finding[]): string {
  const style = makeStyle(io.color);
  const marks = { ok: style.good('ok'), warn: style.warn('warn'), missing: style.bad('missing') };
  return formatTable(
    findings.map((finding) => [
      marks[finding.state],
      style.bold(finding.name),
      finding.found,
      finding.next === undefined ? '' : style.accent(finding.next),
    ]),
  );
}

function doctorFailure(missing: readonly Finding[]): SlipwayError {
  const names = missing.map((finding) => finding.name).join(', ');
  return new SlipwayError('missing_tool', `This machine lacks ${names}.`, {
    next: missing.map((finding) => finding.next ?? '').join(' '),
  });
}

function firstLine(text: string): string {
  return text.split('\n')[0]?.trim() ?? '';
}
