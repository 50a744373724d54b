// `slipway token …`: issue, list and revoke access tokens. Works on the data directory, also while the server runs.
import type { Command } from 'commander';
import { formatScope, parseScope, type AtticScope, type Scope } from '../auth/scope.ts';
import type { TokenInfo } from '../auth/token-registry.ts';
import { quarantineWriter, type QuarantineResult } from '../cache/trust/quarantine.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { dataPaths, openData } from './data-directory.ts';
import { type DataOptions, withDataOptions } from './data-options.ts';
import { parseDuration } from './parse-duration.ts';
import { ensureAtticVerifier } from './server-identities.ts';
import { formatCount, formatTable, makeStyle, stripControl } from './style.ts';

interface CreateOptions extends DataOptions {
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly contribute?: readonly string[];
  readonly manage?: readonly string[];
  readonly agent?: readonly string[];
  readonly view?: boolean;
  readonly admin?: boolean;
  readonly expires?: string;
  readonly attic?: boolean;
}

interface RevokeOptions extends DataOptions {
  readonly quarantine?: boolean;
}

export function registerToken(program: Command, io: CliIo): void {
  const token = program
    .command('token')
    .description('Issue, list and revoke access tokens')
    .addHelpText('after', '\nExample:\n  slipway token create --write main --expires 90d ci');
  registerCreate(token, io);
  withDataOptions(token.command('list'), io)
    .description('All tokens, with when they were last used; never their secrets')
    .addHelpText('after', '\nExample:\n  slipway token list')
    .action(async (options: DataOptions) => {
      await using data = await openData(options.data);
      const tokens = await data.tokens.list();
      if (options.json === true) io.stdout(`${JSON.stringify({ tokens: tokens.map(jsonOf) })}\n`);
      else io.stdout(renderList(io, tokens));
    });
  withDataOptions(token.command('revoke'), io)
    .argument('<id>', 'as "slipway token list" shows it')
    .description('End a token for good; it counts at once')
    .option('--quarantine', 'hold back what only this writer has written, in every cache')
    .addHelpText('after', '\nExample:\n  slipway token revoke k3p0s7wq1z --quarantine')
    .action(async (id: string, options: RevokeOptions) => {
      await using data = await openData(options.data);
      const { identity } = await data.tokens.revoke(id);
      const held = options.quarantine === true ? await quarantineWriter(data.database, identity) : undefined;
      if (options.json === true) io.stdout(`${JSON.stringify({ revoked: id, writer: identity, ...held })}\n`);
      else io.stdout(`Revoked ${id}.\n${held === undefined ? '' : renderQuarantine(held)}`);
    });
}

function registerCreate(token: Command, io: CliIo): void {
  withDataOptions(token.command('create'), io)
    .argument('<name>', 'what it is for; shown in lists and as the writer of paths')
    .description('Issue a token and print it; it cannot be shown again')
    .option('--read <cache>', 'may read this cache; * stands for anything; may be repeated', collect)
    .option('--write <cache>', 'may read and write this cache; may be repeated', collect)
    .option(
      '--contribute <cache>',
      'may fill an overlay of its own over this cache; may be repeated',
      collect,
    )
    .option('--manage <cache>', 'may create, configure and destroy this cache; may be repeated', collect)
    .option('--agent <host>', 'is the agent of this host; may be repeated', collect)
    .option('--view', 'may see the status page')
    .option('--admin', 'may do everything but speak for a host')
    .option('--expires <time>', 'ends by itself after this time, such as 90d')
    .option('--attic', 'in the form that atticadm makes; with --read, --write and --manage only')
    .addHelpText('after', '\nExample:\n  slipway token create --write main --expires 90d ci')
    .action(async (name: string, options: CreateOptions) => {
      await using data = await openData(options.data, { make: true });
      const expiry =
        options.expires === undefined
          ? {}
          : { expiresAt: Date.now() + parseDuration(options.expires) * 1000 };
      const { info, token: text } =
        options.attic === true
          ? await data.tokens.createAttic(
              { name, scopes: atticScopesOf(options), ...expiry },
              await ensureAtticVerifier(dataPaths(options.data).keys),
            )
          : await data.tokens.create({ name, scopes: scopesOf(options), ...expiry });
      io.stdout(
        options.json === true ? `${JSON.stringify({ ...jsonOf(info), token: text })}\n` : `${text}\n`,
      );
    });
}

function scopesOf(options: CreateOptions): Scope[] {
  const texts = [
    ...(options.read ?? []).map((cache) => `read:${cache}`),
    ...(options.write ?? []).map((cache) => `write:${cache}`),
    ...(options.contribute ?? []).map((cache) => `contribute:${cache}`),
    ...(options.manage ?? []).map((cache) => `manage:${cache}`),
    ...(options.agent ?? []).map((host) => `agent:${host}`),
    ...(options.view === true ? ['view'] : []),
    ...(options.admin === true ? ['admin'] : []),
  ];
  return texts.map(parseScope);
}

/** Attic knows caches only, and one entry a pattern. */
function atticScopesOf(options: CreateOptions): AtticScope[] {
  const { read = [], write = [], manage = [], agent = [], contribute = [] } = options;
  if (agent.length + contribute.length > 0 || options.view === true || options.admin === true)
    throw new SlipwayError('invalid', "Attic's tokens can read, write and manage caches, and nothing else.", {
      next: 'Leave out --attic: the attic client takes our own tokens as well.',
    });
  return [...new Set([...read, ...write, ...manage])].map((pattern) => ({
    kind: 'attic',
    pattern,
    permissions: [
      ...(read.includes(pattern) || write.includes(pattern) ? (['r'] as const) : []),
      ...(write.includes(pattern) ? (['w'] as const) : []),
      ...(manage.includes(pattern) ? (['cc', 'cr', 'cq', 'cd'] as const) : []),
    ],
  }));
}

function renderQuarantine({ held, kept, sideFiles }: QuarantineResult): string {
  const lines = held.map((path) => `  ${stripControl(path)}\n`).join('');
  return `Held back ${formatCount(held.length, 'path')} and removed ${formatCount(sideFiles, 'log')} and the like; ${kept} paths have another voucher.\n${lines}`;
}

function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

function jsonOf(info: TokenInfo): Record<string, unknown> {
  return {
    id: info.id,
    name: info.name,
    scopes: info.scopes.map(formatScope),
    createdAt: timeOf(info.createdAt),
    expiresAt: timeOf(info.expiresAt),
    revokedAt: timeOf(info.revokedAt),
    lastUsedAt: timeOf(info.lastUsedAt),
  };
}

function renderList(io: CliIo, tokens: readonly TokenInfo[]): string {
  const style = makeStyle(io.color);
  if (tokens.length === 0) return 'No token yet. Make one: slipway token create --write main ci\n';
  const header = ['id', 'name', 'scopes', 'state', 'last used'].map((title) => style.dim(title));
  const rows = tokens.map((token) => [
    style.bold(token.id),
    stripControl(token.name),
    token.scopes.map(formatScope).join(' '),
    stateOf(token),
    timeOf(token.lastUsedAt) ?? 'never',
  ]);
  return formatTable([header, ...rows]);
}

function stateOf(token: TokenInfo): string {
  if (token.revokedAt !== undefined) return 'revoked';
  if (token.expiresAt === undefined) return 'valid';
  return `${token.expiresAt <= Date.now() ? 'expired' : 'valid until'} ${timeOf(token.expiresAt) ?? ''}`;
}

function timeOf(at: number | undefined): string | undefined {
  return at === undefined ? undefined : new Date(at).toISOString();
}
