// `slipway secrets exposure` and `rotate-status`: what a host or an editor could ever read, and what of it is still good.
import type { Command } from 'commander';
import { readReleases } from '../pipeline/read-releases.ts';
import { findExposure, type Exposure, type ExposureStatus, type Subject } from '../secrets/exposure.ts';
import { keyFingerprint } from '../secrets/key-fingerprint.ts';
import { ERROR_CODES, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { findReleaseCommit, openCheckout, type Checkout } from './secrets-checkout.ts';
import { formatTable, makeStyle, stripControl } from './style.ts';

interface Options {
  readonly repository: string;
  readonly release?: string;
  readonly json?: boolean;
}

const STATUS: Readonly<Record<ExposureStatus, string>> = {
  reads: 'still reads it',
  known: 'knows the present value: change it',
  rotated: 'changed since',
  gone: 'no host uses it any more',
  unknown: 'encrypted anew; whether its value changed is not on record',
};

/** `decorate` adds the options that all secrets commands share. */
export function registerExposure(secrets: Command, io: CliIo, decorate: (command: Command) => Command): void {
  decorate(secrets.command('exposure'))
    .argument('<host|editor>', 'a host’s name; or an editor’s public key, its fingerprint or its comment')
    .description('Everything that a host or an editor could ever read, from the records of all releases')
    .addHelpText('after', '\nExample:\n  slipway secrets exposure web1')
    .action(async (name: string, options: Options) => show(io, options, await find(io, name, options)));
  decorate(secrets.command('rotate-status'))
    .argument('<host|editor>', 'who must no longer know anything: a lost machine, a colleague who left')
    .description(
      'What somebody could read and has not been changed since; ends with 23 while there is anything',
    )
    .addHelpText('after', '\nExample:\n  slipway secrets rotate-status anna@laptop')
    .action(async (name: string, options: Options) => {
      const left = (await find(io, name, options)).filter(
        ({ status }) => status !== 'rotated' && status !== 'gone',
      );
      show(io, options, left);
      if (left.length > 0) process.exitCode = ERROR_CODES.secrets_failed.exit;
    });
}

async function find(io: CliIo, name: string, options: Options): Promise<Exposure[]> {
  const checkout = await openCheckout(options.repository, io.signal);
  const tip = await findReleaseCommit(checkout, options.release);
  if (tip === undefined)
    throw new SlipwayError('not_found', 'There is no release yet, so nobody could read anything.', {
      next: 'Fetch the release branch, or name a commit with --release.',
    });
  const releases = await readReleases(checkout.gitDirectory, tip);
  const isHost = releases.some(({ record }) => record !== undefined && Object.hasOwn(record.hosts, name));
  const subject: Subject = isHost ? { host: name } : { fingerprint: findFingerprint(checkout, name) };
  const exposed = findExposure(releases, subject);
  if (exposed.length === 0 && 'fingerprint' in subject && !checkout.fleet.hosts.has(name))
    throw unknown(name);
  return exposed;
}

function findFingerprint({ fleet }: Checkout, name: string): string {
  if (name.startsWith('SHA256:')) return name;
  const named = fleet.config.secrets.editors.find(
    (line) => line.trim().split(/\s+/).slice(2).join(' ') === name,
  );
  return keyFingerprint(named ?? name);
}

function show(io: CliIo, options: Options, exposed: readonly Exposure[]): void {
  if (options.json === true) return io.stdout(`${JSON.stringify({ ok: true, secrets: exposed })}\n`);
  if (exposed.length === 0) return io.stdout('Nothing.\n');
  const style = makeStyle(io.color);
  const rows = exposed.map((one) => [
    style.bold(stripControl(one.path)),
    one.first === one.last ? `release ${one.first}` : `releases ${one.first} to ${one.last}`,
    one.values === 1 ? '1 value' : `${one.values} values`,
    one.status === 'known' ? style.bad(STATUS[one.status]) : STATUS[one.status],
  ]);
  io.stdout(formatTable(rows));
}

function unknown(name: string): SlipwayError {
  return new SlipwayError('not_found', `No release knows a host or an editor "${name}".`, {
    next: 'Give a host’s name, an editor’s public key, its fingerprint (ssh-keygen -lf KEY.pub), or its comment in the flake.',
  });
}
