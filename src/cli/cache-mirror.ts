// `slipway cache mirror`: everything that one cache holds, or some closures, into another one or any store of Nix.
import type { Command } from 'commander';
import { resolveCache } from '../client/known-servers.ts';
import { mirrorCache, type MirrorProgress, type MirrorResult } from '../client/mirror-cache.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { copyBetweenStores } from '../effects/copy-between-stores.ts';
import { parsePublicKey } from '../nix/signature.ts';
import { parseStorePath, storePathHash } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { formatBytes, formatCount, formatDuration, formatTable, makeStyle, stripControl } from './style.ts';

interface MirrorFlags {
  readonly fromToken?: string;
  readonly toToken?: string;
  readonly key?: readonly string[];
  readonly jobs: string;
  readonly json?: boolean;
}

const EXAMPLES = `
A run that was cut off goes on where complete paths end; run it from a timer, or name it as [[mirrors]] in the server's
configuration.

Examples:
  slipway cache mirror https://eu.example.org/main https://us.example.org/main --from-token file:/run/eu --to-token file:/run/us
  slipway cache mirror https://cache.example.org/main home:main /nix/store/…-nixos-system-web1
  slipway cache mirror https://cache.example.org/main file:///mnt/usb /nix/store/…-nixos-system-web1`;

export function registerMirror(cache: Command, io: CliIo): void {
  cache
    .command('mirror')
    .description('Bring what one cache holds, or some closures, into another')
    .argument('<source>', 'URL, <server>:<cache>, or a name on the server that was logged in to last')
    .argument(
      '<destination>',
      'the same; or another store of Nix with file://, s3:// or ssh:// (needs paths)',
    )
    .argument(
      '[path...]',
      'store paths whose closures are mirrored; without: all that the source, a Slipway, holds',
    )
    .option(
      '--from-token <reference>',
      'token of the source: file:/path, env:NAME, credential:name or op://…',
    )
    .option('--to-token <reference>', 'token of the destination; it must be allowed to write')
    .option('--key <keys...>', 'only what one of these public keys has signed')
    .option('-j, --jobs <n>', 'transfers at a time', '4')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (source: string, destination: string, words: string[], flags: MirrorFlags) => {
      const paths = words.map((word) => parseStorePath(word));
      const from = await targetOf(io, source, flags.fromToken);
      if (isOtherStore(destination)) {
        if (paths.length === 0) throw noPaths();
        await copyBetweenStores({ from, to: destination, paths, signal: io.signal });
        io.stdout(
          flags.json === true
            ? `${JSON.stringify({ ok: true })}\n`
            : `${makeStyle(io.color).good('ok')} there: ${formatCount(paths.length, 'closure')}\n`,
        );
        return;
      }
      const result = await mirrorCache({
        source: from,
        destination: await targetOf(io, destination, flags.toToken),
        ...(paths.length > 0 && { hashes: paths.map(storePathHash) }),
        ...(flags.key && { keys: flags.key.map(parsePublicKey) }),
        jobs: parseJobs(flags.jobs),
        signal: io.signal,
        onProgress: flags.json === true ? () => undefined : progressLine(io),
      });
      const ok = result.failed === 0;
      io.stdout(flags.json === true ? `${JSON.stringify({ ok, ...result })}\n` : summary(io, result));
      if (!ok) throw incomplete(result);
    });
}

async function targetOf(io: CliIo, text: string, token: string | undefined) {
  const known = await resolveCache(io.env, text);
  return token === undefined ? known : { ...known, token: await readSecretReference(token) };
}

function isOtherStore(text: string): boolean {
  return /^(file|s3|ssh|ssh-ng|local):/.test(text);
}

function parseJobs(text: string): number {
  const jobs = Number(text);
  if (Number.isInteger(jobs) && jobs >= 1 && jobs <= 64) return jobs;
  throw new SlipwayError('invalid', `--jobs takes a whole number from 1 to 64, not "${text}".`);
}

function progressLine(io: CliIo): (progress: MirrorProgress) => void {
  const style = makeStyle(io.color);
  let told = 0;
  return ({ seen, copied, copiedBytes }) => {
    const text = `${seen} paths looked at, ${style.accent(String(copied))} copied, ${formatBytes(copiedBytes)}`;
    if (io.terminal) io.stderr(`\r\u001B[K${text}`);
    else if (performance.now() - told > 5_000) io.stderr(`${text}\n`);
    else return;
    told = performance.now();
  };
}

function summary(io: CliIo, result: MirrorResult): string {
  const style = makeStyle(io.color);
  if (io.terminal) io.stderr('\r\u001B[K');
  const failures = result.failures.map(({ path, message }) => [style.bad(path), stripControl(message)]);
  const done = `${formatCount(result.copied, 'path')} copied (${formatBytes(result.copiedBytes)}), ${result.seen - result.copied - result.failed} were there`;
  const mark = result.failed === 0 ? style.good('ok') : style.bad('incomplete');
  return `${formatTable(failures)}${mark} ${done} ${style.dim(`in ${formatDuration(result.ms)}`)}\n`;
}

function noPaths(): SlipwayError {
  return new SlipwayError('invalid', 'A store that is no Slipway needs the paths to mirror.', {
    next: 'Name them behind the destination, such as the toplevels of your hosts.',
  });
}

function incomplete({ failed }: MirrorResult): SlipwayError {
  return new SlipwayError('conflict', `${failed} paths could not be mirrored; the others were.`, {
    next: 'The reasons stand above. The next run tries them again.',
  });
}
