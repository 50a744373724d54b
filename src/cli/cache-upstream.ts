// `slipway cache upstream add|remove|list`: other binary caches that a cache asks for what it does not hold.
// A running server sees changes within two seconds.
import type { Command } from 'commander';
import { upstreamConfig, type UpstreamConfig } from '../api/source-config.ts';
import { formatIssue } from '../api/issue-text.ts';
import type { Cache } from '../cache/cache-registry.ts';
import { quarantineWriter } from '../cache/trust/quarantine.ts';
import { readPulled } from '../cache/sources/pulled-figures.ts';
import { upstreamName } from '../cache/sources/upstream.ts';
import { UPSTREAM_WRITER } from '../cache/writer.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseSize } from './cache-configure.ts';
import { printValue, withDataOptions, type DataOptions } from './data-options.ts';
import type { CliIo } from './cli-io.ts';
import { openData } from './data-directory.ts';
import { DEFAULT_PULLED_BYTES } from './server-cache.ts';
import { formatBytes, formatCount, formatTable, makeStyle } from './style.ts';

/** Keys that everybody knows, so that nobody has to copy them. */
const WELL_KNOWN: Readonly<Record<string, string>> = {
  'https://cache.nixos.org': 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=',
};

interface AddOptions extends DataOptions {
  readonly key?: readonly string[];
  readonly token?: string;
  readonly netrc?: string;
  readonly sign?: boolean;
  readonly limit?: string;
}

interface RemoveOptions extends DataOptions {
  readonly quarantine?: boolean;
}

interface UpstreamView {
  readonly cache: string;
  readonly upstreams: readonly UpstreamConfig[];
  readonly pulledLimit: number | undefined;
  readonly pulledPaths: number;
  readonly pulledBytes: number;
}

const EXAMPLES = `
Examples:
  slipway cache upstream add main https://cache.nixos.org
  slipway cache upstream add main https://example.cachix.org --key "example.cachix.org-1:…="
  slipway cache upstream add main https://far.example.org/main --key "main-1:…=" --token file:/run/secrets/far --sign`;

export function registerUpstream(cache: Command, io: CliIo): void {
  const upstream = cache
    .command('upstream')
    .description('Other caches that a cache asks for what it does not hold, and keeps copies of')
    .addHelpText('after', EXAMPLES);
  registerAdd(upstream, io);
  registerRemove(upstream, io);
  withDataOptions(upstream.command('list'), io)
    .argument('<cache>')
    .description('The upstreams of a cache, and how much of them it keeps')
    .addHelpText('after', '\nExample:\n  slipway cache upstream list main')
    .action(async (name: string, options: DataOptions) => {
      await using data = await openData(options.data);
      const found = await data.caches.get(name);
      printValue(io, options, await viewOf(data, found), render);
    });
}

function registerAdd(upstream: Command, io: CliIo): void {
  withDataOptions(upstream.command('add'), io)
    .argument('<cache>')
    .argument('<url>', 'of the upstream: anything that Nix can substitute from over http or https')
    .description('Ask another cache for what this one does not hold; again: change its settings')
    .option('--key <keys...>', 'public keys, name:base64: what none of them signed is not served')
    .option('--token <reference>', 'sent as Bearer token: file:/path, env:NAME, credential:name or op://…')
    .option('--netrc <reference>', 'a netrc file with a password for its host, such as file:/etc/nix/netrc')
    .option('--sign', "let this cache's key vouch for what the upstream's key has signed")
    .option('--limit <bytes>', 'most bytes that this cache keeps of all its upstreams (default: 100G)')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, url: string, options: AddOptions) => {
      await using data = await openData(options.data);
      const before = await data.caches.get(name);
      const added = parseUpstream(url, options);
      const upstreams = [...before.upstreams.filter((one) => one.url !== added.url), added];
      const borrowedBytes =
        options.limit === undefined
          ? (before.borrowedBytes ?? DEFAULT_PULLED_BYTES)
          : parseSize(options.limit);
      const after = await data.caches.configure(name, { upstreams, borrowedBytes });
      printValue(io, options, await viewOf(data, after), render);
    });
}

function registerRemove(upstream: Command, io: CliIo): void {
  withDataOptions(upstream.command('remove'), io)
    .argument('<cache>')
    .argument('<url>')
    .description('Ask an upstream no more; what was fetched stays until garbage collection takes it')
    .option('--quarantine', 'hold back, in all caches, what only this upstream has sent: its key is lost')
    .addHelpText('after', '\nExample:\n  slipway cache upstream remove main https://example.cachix.org')
    .action(async (name: string, url: string, options: RemoveOptions) => {
      await using data = await openData(options.data);
      const before = await data.caches.get(name);
      const plain = plainUrl(url);
      const upstreams = before.upstreams.filter((one) => one.url !== plain);
      if (upstreams.length === before.upstreams.length && options.quarantine !== true)
        throw new SlipwayError('not_found', `${name} has no upstream ${plain}.`, {
          next: `It has: ${before.upstreams.map((one) => one.url).join(', ') || 'none'}.`,
        });
      const after = await data.caches.configure(name, { upstreams });
      const writer = `${UPSTREAM_WRITER}${upstreamName({ url: plain })}`;
      const held = options.quarantine === true ? (await quarantineWriter(data.database, writer)).held : [];
      printValue(io, options, { ...(await viewOf(data, after)), held }, (io, view) => {
        const told = view.held.length === 0 ? '' : `Held back: ${formatCount(view.held.length, 'path')}.\n`;
        return told + render(io, view);
      });
    });
}

function parseUpstream(url: string, options: AddOptions): UpstreamConfig {
  const plain = plainUrl(url);
  const known = WELL_KNOWN[plain];
  const parsed = upstreamConfig.safeParse({
    url: plain,
    keys: options.key ?? (known === undefined ? [] : [known]),
    token: options.token,
    netrc: options.netrc,
    sign: options.sign === true,
  });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const noKey = issue?.path[0] === 'keys' && options.key === undefined;
  throw new SlipwayError(
    'invalid',
    noKey ? 'An upstream needs a key: nothing else tells its paths from forged ones.' : formatIssue(issue),
    noKey
      ? {
          next: 'Its operators publish it; of a Slipway: slipway cache info <cache>. Then: --key "name:base64"',
        }
      : {},
  );
}

function plainUrl(url: string): string {
  return url.replace(/\/+$/, '');
}

async function viewOf(data: Parameters<typeof readPulled>[0], cache: Cache): Promise<UpstreamView> {
  const { paths, bytes } = await readPulled(data, cache);
  return {
    cache: cache.name,
    upstreams: cache.upstreams,
    pulledLimit: cache.borrowedBytes,
    pulledPaths: paths,
    pulledBytes: bytes,
  };
}

function render(io: CliIo, view: UpstreamView): string {
  const style = makeStyle(io.color);
  const limit = view.pulledLimit === undefined ? 'no limit' : `at most ${formatBytes(view.pulledLimit)}`;
  const kept = `Kept of upstreams: ${formatCount(view.pulledPaths, 'path')}, ${formatBytes(view.pulledBytes)} (${limit})\n`;
  if (view.upstreams.length === 0)
    return `${view.cache} asks no upstream.\n${view.pulledPaths > 0 ? kept : ''}`;
  const rows = view.upstreams.map(({ url, keys, sign, token, netrc }) => [
    style.bold(url),
    keys.map((key) => key.split(':', 1)[0]).join(', '),
    sign ? "signed with this cache's key too" : 'signed by the upstream alone',
    style.dim(token ?? netrc ?? ''),
  ]);
  return `${formatTable(rows)}${kept}`;
}
