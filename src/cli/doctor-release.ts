// `slipway doctor release`: whether the forge protects the release branches and the source, and the settings that do.
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { FORGE_KINDS, type Forge, type ForgeAccess, type ForgeKind } from '../effects/forge.ts';
import { openForgejo } from '../effects/forge-forgejo.ts';
import { openGithub } from '../effects/forge-github.ts';
import { openGitlab } from '../effects/forge-gitlab.ts';
import { protectionSettings } from '../pipeline/protection-settings.ts';
import {
  judgeProtection,
  protectedBranches,
  type ProtectionFinding,
} from '../pipeline/release-protection.ts';
import { ERROR_CODES, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { formatTable, makeStyle, stripControl } from './style.ts';

interface Options {
  readonly forge?: string;
  readonly api?: string;
  readonly tokenFile?: string;
  readonly pusher?: string;
  readonly settings?: boolean;
  readonly releaseBranch: string;
  readonly sourceBranch: string;
  readonly json?: boolean;
}

interface Place {
  readonly kind: ForgeKind;
  readonly api: string;
  readonly project: string;
}

const OPEN: Readonly<Record<ForgeKind, (access: ForgeAccess) => Forge>> = {
  github: openGithub,
  gitlab: openGitlab,
  forgejo: openForgejo,
};

export function registerDoctorRelease(doctor: Command, io: CliIo): void {
  doctor
    .command('release')
    .argument('<url>', 'the repository that releases are published to')
    .description('Check that the forge protects the release branches and the source')
    .option('--forge <kind>', `${FORGE_KINDS.join(', ')} (default: as the host’s name says)`)
    .option('--api <url>', 'root of the forge’s API (default: where that forge has it)')
    .option('--token-file <file>', 'token that may read the repository’s settings')
    .option('--release-branch <name>', 'the release branch', 'release')
    .option('--source-branch <name>', 'the branch that is released', 'main')
    .option('--settings', 'print the calls of the API that protect them, instead of looking')
    .option(
      '--pusher <id>',
      'who publishes, for --settings: a user name (Forgejo) or numeric id; default: a deploy key',
    )
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      '\nExample:\n  slipway doctor release https://codeberg.org/me/fleet --forge forgejo --token-file token',
    )
    .action(async (url: string, options: Options) => {
      const place = findPlace(url, options);
      if (options.settings === true) printSettings(io, place, options);
      else await check(io, place, options);
    });
}

async function check(io: CliIo, { kind, api, project }: Place, options: Options): Promise<void> {
  const token =
    options.tokenFile === undefined ? undefined : await readToken(resolve(io.cwd, options.tokenFile));
  const forge = OPEN[kind]({ api, project, token, signal: io.signal });
  const findings: ProtectionFinding[] = [];
  for (const wanted of protectedBranches(options.releaseBranch, options.sourceBranch))
    findings.push(...judgeProtection(wanted, await forge.readProtection(wanted.branch)));
  const bad = findings.some(({ state }) => state === 'bad');
  io.stdout(options.json === true ? `${JSON.stringify({ ok: !bad, findings })}\n` : render(io, findings));
  if (!bad) return;
  if (options.json !== true)
    io.stderr('Print the settings that mend it: slipway doctor release … --settings\n');
  process.exitCode = ERROR_CODES.test_failed.exit;
}

function printSettings(io: CliIo, { kind, api, project }: Place, options: Options): void {
  const { releaseBranch: release, sourceBranch: source, pusher } = options;
  const calls = protectionSettings(kind, { project, release, source, pusher });
  if (options.json === true) return io.stdout(`${JSON.stringify({ ok: true, api, calls })}\n`);
  for (const { method, path, body } of calls)
    io.stdout(`${method} ${api}${path}\n${JSON.stringify(body, undefined, 2)}\n\n`);
}

/** Forge, API and project of a repository's URL. */
function findPlace(url: string, options: Options): Place {
  const found = /^(?:[a-z+]+:\/\/)?(?:[^@/]+@)?([^:/]+)(?::\d+)?[:/]+(.+?)(?:\.git)?\/*$/.exec(url);
  const [, host = '', project = ''] = found ?? [];
  if (!/^[^/]+\/./.test(project)) {
    throw new SlipwayError('invalid', `${url} does not name a repository of a forge.`, {
      next: 'Give its URL, such as https://forge.example.org/me/fleet.',
    });
  }
  const kind = findKind(host, options.forge);
  return { kind, project, api: (options.api ?? defaultApi(kind, host)).replace(/\/+$/, '') };
}

function findKind(host: string, given: string | undefined): ForgeKind {
  const named = FORGE_KINDS.find((kind) => kind === given);
  if (named !== undefined) return named;
  const guess = FORGE_KINDS.find((kind) => host.includes(kind));
  if (given === undefined && guess !== undefined) return guess;
  if (given === undefined && host === 'codeberg.org') return 'forgejo';
  throw new SlipwayError('invalid', `Which forge runs at ${host} is not known.`, {
    next: `Say it with --forge ${FORGE_KINDS.join('|')}.`,
  });
}

function defaultApi(kind: ForgeKind, host: string): string {
  if (kind === 'gitlab') return `https://${host}/api/v4`;
  if (kind === 'forgejo') return `https://${host}/api/v1`;
  return host === 'github.com' ? 'https://api.github.com' : `https://${host}/api/v3`;
}

async function readToken(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new SlipwayError('invalid', `The token file ${file} cannot be read.`, {
      next: 'Check --token-file.',
      cause,
    });
  });
  return text.trim();
}

function render(io: CliIo, findings: readonly ProtectionFinding[]): string {
  const style = makeStyle(io.color);
  const marks = { ok: style.good('ok'), warn: style.warn('warn'), bad: style.bad('bad') };
  return formatTable(
    findings.map(({ branch, state, message }) => [
      marks[state],
      style.bold(stripControl(branch)),
      stripControl(message),
    ]),
  );
}
