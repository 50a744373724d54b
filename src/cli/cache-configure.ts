// `slipway cache configure`: settings of a cache and its signing keys. A running server sees changes within two seconds.
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Cache, CacheChanges } from '../cache/cache-registry.ts';
import { changeKeys } from '../cache/change-keys.ts';
import { generateSecretKey, parseSecretKey, publicKeyOf } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';
import { printValue, withDataOptions, type DataOptions } from './data-options.ts';
import type { CliIo } from './cli-io.ts';
import { openData, type OpenData } from './data-directory.ts';
import { parseDuration } from './parse-duration.ts';

interface ConfigureOptions extends DataOptions {
  readonly public?: boolean;
  readonly private?: boolean;
  readonly priority?: string;
  readonly storeDir?: string;
  readonly closures?: string;
  readonly upstreamKeys?: readonly string[];
  readonly acceptKeys?: readonly string[];
  readonly agreement?: string;
  readonly retention?: string;
  readonly quota?: string;
  readonly pulledLimit?: string;
  readonly localStore?: string;
  readonly localStoreSignatures?: string;
  readonly addKey?: string;
  readonly retireKey?: string;
}

interface Configured {
  readonly name: string;
  readonly publicKeys: readonly string[];
  /** Published paths that were signed anew because the keys changed. */
  readonly signed: number;
  readonly settings: Omit<Cache, 'id' | 'createdAt' | 'epoch' | 'baseId' | 'name' | 'sourcesKey'>;
}

const EXAMPLES = `
Examples:
  slipway cache configure main --accept-keys "build-1:q83v…=" --agreement 2
  slipway cache configure main --add-key new             (sign with a second key; hosts learn to trust it)
  slipway cache configure main --retire-key main-1       (later: sign with the new one alone)`;

export function registerConfigure(cache: Command, io: CliIo): void {
  withDataOptions(cache.command('configure'), io)
    .argument('<name>')
    .description('Change settings and signing keys of a cache')
    .option('--public', 'let everybody read it')
    .option('--private', 'only tokens read it')
    .option('--priority <n>', 'lower is asked first; cache.nixos.org has 40')
    .option('--store-dir <path>', 'store directory of its paths')
    .option('--closures <complete|open>', 'whether all that a path references must be in this cache')
    .option('--upstream-keys <names...>', 'clients skip what these keys signed; "" for none')
    .option('--accept-keys <keys...>', 'publish what these public keys signed, whoever sends it; "" for none')
    .option('--agreement <n>', "publish a contributor's path once n of them hold the same bytes; 0: never")
    .option(
      '--retention <time>',
      'keep unused paths so long, such as 90d; 0: for ever; default: as the server',
    )
    .option('--quota <bytes>', 'most bytes of NARs, such as 200G; none: no limit')
    .option('--pulled-limit <bytes>', 'most bytes kept of upstreams, such as 50G; none: no limit')
    .option(
      '--local-store <root>',
      "serve this machine's store too, as nix-serve does: / for most; none: not",
    )
    .option('--local-store-signatures <add|keep>', "sign those paths with the cache's key (default), or not")
    .option('--add-key <new|file>', 'sign with another key too, and sign what is published')
    .option('--retire-key <name>', 'sign with it no more, and take its signatures out')
    .addHelpText('after', EXAMPLES)
    .action(async (name: string, options: ConfigureOptions) => {
      await using data = await openData(options.data);
      printValue(io, options, await configure(data, name, options), render);
    });
}

async function configure(data: OpenData, name: string, options: ConfigureOptions): Promise<Configured> {
  const cache = await data.caches.configure(name, changesOf(options));
  const keys = await wantedKeys(data, name, options);
  const signed = keys === undefined ? 0 : await changeKeys(data, cache, keys);
  const { id: _i, createdAt: _c, epoch: _e, baseId: _b, name: _n, sourcesKey: _s, ...settings } = cache;
  return { name, publicKeys: (await data.keys.get(name)).map(publicKeyOf), signed, settings };
}

function changesOf(options: ConfigureOptions): CacheChanges {
  const { priority, storeDir, closures, agreement, retention, quota } = options;
  return {
    ...visibilityOf(options),
    ...(priority !== undefined && { priority: wholeNumber(priority, '--priority') }),
    ...(storeDir !== undefined && { storeDir }),
    ...(closures !== undefined && { closed: parseClosures(closures) }),
    ...(options.upstreamKeys && { upstreamKeys: wordsOf(options.upstreamKeys) }),
    ...(options.acceptKeys && { acceptedKeys: wordsOf(options.acceptKeys) }),
    ...(agreement !== undefined && { agreement: parseAgreement(agreement) }),
    ...(retention !== undefined && { retentionMs: parseRetention(retention) }),
    ...(quota !== undefined && { quotaBytes: parseLimit(quota) }),
    ...sourceChanges(options),
  };
}

function sourceChanges({ pulledLimit, localStore, localStoreSignatures }: ConfigureOptions): CacheChanges {
  if (localStoreSignatures !== undefined && localStore === undefined)
    throw new SlipwayError('invalid', '--local-store-signatures goes with --local-store.');
  if (localStoreSignatures !== undefined && !['add', 'keep'].includes(localStoreSignatures))
    throw new SlipwayError('invalid', '--local-store-signatures is "add" or "keep".');
  const sign = localStoreSignatures !== 'keep';
  return {
    ...(pulledLimit !== undefined && { borrowedBytes: parseLimit(pulledLimit) }),
    ...(localStore !== undefined && {
      localStore: localStore === 'none' ? undefined : { root: localStore, sign },
    }),
  };
}

function visibilityOf(options: ConfigureOptions): CacheChanges {
  if (options.public === true && options.private === true)
    throw new SlipwayError('invalid', 'A cache is public or private, not both.');
  if (options.public === true) return { isPublic: true };
  return options.private === true ? { isPublic: false } : {};
}

/** All keys from now on; undefined when they stay as they are. */
async function wantedKeys(
  data: OpenData,
  name: string,
  { addKey, retireKey }: ConfigureOptions,
): Promise<string[] | undefined> {
  if (addKey === undefined && retireKey === undefined) return undefined;
  const held = await data.keys.readText(name);
  const names = held.map((text) => parseSecretKey(text).name);
  if (retireKey !== undefined && !names.includes(retireKey))
    throw new SlipwayError('not_found', `${name} does not sign with a key called ${retireKey}.`, {
      next: `It signs with ${names.join(', ')}.`,
    });
  const kept = held.filter((text) => parseSecretKey(text).name !== retireKey);
  if (addKey === undefined) return kept;
  return [
    ...kept,
    addKey === 'new' ? generateSecretKey(nextName(name, names)) : await readFile(addKey, 'utf8'),
  ];
}

/** `main-1` is followed by `main-2`, also when others have come and gone. */
function nextName(cache: string, names: readonly string[]): string {
  const used = names.map((name) => Number(/-(\d{1,9})$/.exec(name)?.[1] ?? 0));
  return `${cache}-${Math.max(0, ...used) + 1}`;
}

function parseClosures(text: string): boolean {
  if (text === 'complete' || text === 'open') return text === 'complete';
  throw new SlipwayError('invalid', `--closures is "complete" or "open", not "${text}".`);
}

function parseAgreement(text: string): number {
  const count = wholeNumber(text, '--agreement');
  if (count === 0 || (count >= 2 && count <= 100)) return count;
  throw new SlipwayError('invalid', '--agreement is 0 or at least 2: one contributor agrees with itself.');
}

function parseRetention(text: string): number | undefined {
  return text === 'default' ? undefined : parseDuration(text) * 1000;
}

function parseLimit(text: string): number | undefined {
  return text === 'none' ? undefined : parseSize(text);
}

export function parseSize(text: string): number {
  const match = /^(\d{1,9})([KMGT]?)$/i.exec(text);
  const power = ['', 'k', 'm', 'g', 't'].indexOf((match?.[2] ?? '').toLowerCase());
  if (match === null) throw new SlipwayError('invalid', `"${text}" is not a size such as 500M or 200G.`);
  return Number(match[1]) * 1000 ** power;
}

function wholeNumber(text: string, option: string): number {
  if (/^-?\d{1,9}$/.test(text)) return Number(text);
  throw new SlipwayError('invalid', `${option} takes a whole number, not "${text}".`);
}

function wordsOf(words: readonly string[]): string[] {
  return words.flatMap((word) => word.split(/[\s,]+/)).filter((word) => word !== '');
}

function render(_io: CliIo, { name, publicKeys, signed }: Configured): string {
  const keys = publicKeys.map((key) => `  ${key}\n`).join('');
  const anew = signed === 0 ? '' : `${signed} paths were signed anew.\n`;
  return `${name} is configured. Keys that hosts may trust:\n${keys}${anew}`;
}
