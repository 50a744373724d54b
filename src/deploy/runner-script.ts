// host/activate.sh as it travels: one file, its parts put in place of the lines that source them. And the script that
// unpacks it, with its intent, on a host in one round trip.
import { readFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';

const RUNNER_FOLDER = new URL('../../host/', import.meta.url);
const SOURCE_LINE = /^\. "\$here\/(lib\/[a-z-]+\.sh)"\n/gm;
export const DEPLOY_FOLDER = '/var/lib/slipway/deploy';

let loaded: Promise<string> | undefined;

/** The runner as one file; read once. */
export async function readRunner(): Promise<string> {
  loaded ??= bundle();
  return await loaded;
}

async function bundle(): Promise<string> {
  const main = await readFile(new URL('activate.sh', RUNNER_FOLDER), 'utf8');
  const names = [...main.matchAll(SOURCE_LINE)].map((match) => match[1] ?? '');
  const parts = new Map<string, string>();
  for (const name of names) parts.set(name, await readFile(new URL(name, RUNNER_FOLDER), 'utf8'));
  return main
    .replace(/^here=.*\n/m, '')
    .replaceAll(SOURCE_LINE, (_, name: string) => (parts.get(name) ?? '').replace(/^# shellcheck.*\n/, ''));
}

export interface TrialFiles {
  readonly id: string;
  readonly intent: string;
  readonly checks: string;
  readonly hooks: string;
}

/** A script for `sh -s`: makes the deploy's folder, writes its files and starts the trial; prints the first state. */
export function formatInstallScript(runner: string, files: TrialFiles, force: boolean): string {
  const folder = `${DEPLOY_FOLDER}/${files.id}`;
  const end = `END-${randomUUID()}`;
  const file = (name: string, content: string): string =>
    `cat >"${folder}/${name}" <<'${end}'\n${content}${end}\n`;
  return [
    'set -eu\numask 022\n',
    `mkdir -p ${DEPLOY_FOLDER}\nmkdir "${folder}"\n`,
    file('activate.sh', runner),
    file('intent.json', files.intent),
    file('checks', files.checks),
    file('hooks', files.hooks),
    `exec /bin/sh "${folder}/activate.sh" start "${folder}"${force ? ' --force' : ''} </dev/null\n`,
  ].join('');
}
