// Copies closures from a cache into a store that only nix can write to: files, S3, a machine over ssh.
// nix itself skips what is there and checks each NAR that it reads.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SlipwayError } from '../util/errors.ts';
import { exec } from './exec.ts';
import { parseNixError } from './nix-error.ts';

const PATHS_A_COPY = 200;
const COPY_TIMEOUT_MS = 24 * 3_600_000;

export interface StoreCopy {
  readonly from: { readonly url: string; readonly token?: string };
  /** As nix spells stores: `file:///mnt`, `s3://bucket`, `ssh://host`. */
  readonly to: string;
  readonly paths: readonly string[];
  readonly signal?: AbortSignal;
}

/** An interrupted copy goes on where complete paths end. */
export async function copyBetweenStores({ from, to, paths, signal }: StoreCopy): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'slipway-copy-'));
  try {
    const netrc = join(folder, 'netrc'); // a token in the arguments would be seen by everybody
    const entry = `machine ${new URL(from.url).hostname} login slipway password ${from.token ?? ''}\n`;
    await writeFile(netrc, from.token === undefined ? '' : entry, { mode: 0o600 });
    const options = [
      '--extra-experimental-features',
      'nix-command',
      '--netrc-file',
      netrc,
      '--no-check-sigs',
    ];
    for (let at = 0; at < paths.length; at += PATHS_A_COPY) {
      const argv = [
        'nix',
        'copy',
        ...options,
        '--from',
        from.url,
        '--to',
        to,
        ...paths.slice(at, at + PATHS_A_COPY),
      ];
      const result = await exec(argv, {
        env: { LC_ALL: 'C' },
        timeoutMs: COPY_TIMEOUT_MS,
        ...(signal && { signal }),
      });
      if (result.code === 0) continue;
      const { message } = parseNixError(result.stderr);
      throw new SlipwayError('unavailable', `The paths could not be copied to ${to}: ${message}`, {
        next: 'Run it again; what arrived is kept.',
      });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
