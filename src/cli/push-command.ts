// `slipway push`: closures of store paths to a cache, with progress; what is there already is not sent.
import { realpath } from 'node:fs/promises';
import { text as readText } from 'node:stream/consumers';
import type { Command } from 'commander';
import { resolveCache } from '../client/known-servers.ts';
import { pushClosure, type PushResult } from '../client/push-closure.ts';
import type { PushProgress } from '../client/push-tally.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { parseStorePath, type StorePath } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { formatBytes, formatCount, formatDuration, makeStyle } from './style.ts';

interface PushFlags {
  readonly token?: string;
  readonly jobs: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  slipway push main ./result
  slipway push https://cache.example.org/main ./result --token file:/etc/slipway/push-token
  nix path-info --all | slipway push https://cache.example.org/main - --token env:SLIPWAY_TOKEN`;

export function registerPush(program: Command, io: CliIo): void {
  program
    .command('push')
    .description('Push the closures of store paths to a cache')
    .argument(
      '<cache>',
      'URL, <server>:<cache>, or the name of a cache on the server that was logged in to last',
    )
    .argument('<path...>', 'store paths or links to them; - reads them from standard input')
    .option('--token <reference>', 'where the token is: file:/path, env:NAME, credential:name or op://…')
    .option('-j, --jobs <n>', 'uploads at a time', '4')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (cache: string, words: string[], flags: PushFlags) => {
      const paths = await resolvePaths(words);
      const result = await pushClosure({
        target: { ...(await resolveCache(io.env, cache)), ...(await tokenOf(flags)) },
        paths,
        jobs: parseJobs(flags.jobs),
        signal: io.signal,
        onProgress: flags.json === true ? () => undefined : progressLine(io),
      });
      io.stdout(flags.json === true ? `${JSON.stringify({ ok: true, ...result })}\n` : summary(io, result));
    });
}

async function tokenOf(flags: PushFlags): Promise<{ token?: string }> {
  return flags.token === undefined ? {} : { token: await readSecretReference(flags.token) };
}

function parseJobs(text: string): number {
  const jobs = Number(text);
  if (Number.isInteger(jobs) && jobs >= 1 && jobs <= 64) return jobs;
  throw new SlipwayError('invalid', `--jobs takes a whole number from 1 to 64, not "${text}".`);
}

async function resolvePaths(words: readonly string[]): Promise<StorePath[]> {
  const given = words.includes('-') ? (await readText(process.stdin)).split(/\s+/) : words;
  const texts = given.filter((word) => word !== '' && word !== '-');
  if (texts.length === 0) throw new SlipwayError('invalid', 'There is nothing to push: no path was given.');
  return await Promise.all(texts.map(resolvePath));
}

/** A store path, a link to one (`./result`), or a file inside one: the path as a whole. */
async function resolvePath(word: string): Promise<StorePath> {
  const real = await realpath(word).catch(() => word);
  return parseStorePath(/^\/nix\/store\/[^/]+/.exec(real)?.[0] ?? real);
}

function progressLine(io: CliIo): (progress: PushProgress) => void {
  const style = makeStyle(io.color);
  return ({ total, present, pushed, narBytes, readBytes, sentBytes, path }) => {
    const done = `${present + pushed}/${total}`;
    const read = `${formatBytes(readBytes)} of ${formatBytes(narBytes)} read`;
    if (io.terminal)
      io.stderr(`\r\u001B[K${style.accent(done)} paths, ${read}, ${formatBytes(sentBytes)} sent`);
    else if (path !== undefined) io.stderr(`${done} ${path}\n`);
  };
}

function summary(io: CliIo, result: PushResult): string {
  const style = makeStyle(io.color);
  if (io.terminal) io.stderr('\r\u001B[K');
  const what =
    result.pushed === 0
      ? `nothing to push: ${formatCount(result.present, 'path')}, all there`
      : `pushed ${formatCount(result.pushed, 'path')} (${formatBytes(result.narBytes)}, ${formatBytes(result.sentBytes)} sent), ${result.present} were there`;
  return `${style.good('ok')} ${what} ${style.dim(`in ${formatDuration(result.ms)}`)}\n`;
}
