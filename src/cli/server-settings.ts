// The flags that `up` and `serve` share, and the configuration that they and the file come to.
import { isAbsolute, resolve } from 'node:path';
import type { Command } from 'commander';
import type { ServerConfig } from '../api/server-config.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { readServerConfig } from './config-file.ts';

export interface ServerFlags {
  readonly data?: string;
  readonly config?: string;
  readonly listen?: readonly string[];
  readonly publicUrl?: string;
  readonly publicCache?: boolean;
  readonly json?: boolean;
  readonly repository?: string;
  readonly branch?: string;
  readonly releaseBranch?: string;
  readonly poll?: string;
  readonly sshKey?: string;
}

export function addServerOptions(command: Command): Command {
  return command
    .option('--data <directory>', 'where everything is kept; made at the first start')
    .option('--config <file>', 'settings as TOML; flags stand over it')
    .option(
      '--listen <address...>',
      'host:port, :port for every address, or unix:/path (default: 127.0.0.1:7480)',
    )
    .option('--public-url <url>', 'how hosts and forges reach this server (default: its first address)')
    .option(
      '--public-cache',
      'let everybody who reaches the server read the cache "main" that the first start makes',
    )
    .option('--json', 'print one JSON object a line: "listening" first, then each change of a run');
}

export function addRepositoryOptions(command: Command): Command {
  return command
    .option('--repository <path|url>', 'the fleet: a bare repository or a URL')
    .option('--branch <name>', 'branch to release from', 'main')
    .option('--release-branch <name>', 'branch that Slipway publishes to', 'release')
    .option('--poll <seconds>', 'time between two looks at the branch; 0: webhooks only')
    .option('--ssh-key <file>', 'private key for ssh repositories');
}

export async function readServerSettings(flags: ServerFlags, io: CliIo): Promise<ServerConfig> {
  const path = (name: string): string => resolve(io.cwd, name);
  const data = flags.data ?? io.env['SLIPWAY_DATA'];
  const file = flags.config === undefined ? undefined : path(flags.config);
  if (data === undefined && file === undefined) throw noData();
  return await readServerConfig(file, {
    ...(data !== undefined && { data: path(data) }),
    ...(flags.listen !== undefined && { listen: flags.listen }),
    ...(flags.publicUrl !== undefined && { publicUrl: flags.publicUrl.replace(/\/+$/, '') }),
    ...(flags.publicCache === true && { caches: [{ name: 'main', public: true }] }),
    ...(flags.repository !== undefined && { repositories: [repositoryOf(flags, flags.repository, path)] }),
  });
}

function repositoryOf(
  flags: ServerFlags,
  repository: string,
  path: (name: string) => string,
): Record<string, unknown> {
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\/|^[^/]+:/i.test(repository);
  return {
    name: repositoryName(repository),
    url: isUrl || isAbsolute(repository) ? repository : path(repository),
    branch: flags.branch,
    releaseBranch: flags.releaseBranch,
    ...(flags.poll !== undefined && { poll: Number(flags.poll) }),
    ...(flags.sshKey !== undefined && { sshKey: path(flags.sshKey) }),
  };
}

/** `https://forge.example.org/me/Fleet.git` -> `fleet`. */
export function repositoryName(repository: string): string {
  const last =
    repository
      .replace(/\/+$/, '')
      .replace(/\.git$/, '')
      .split(/[/:]/)
      .at(-1) ?? '';
  const name = last
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  return name === '' ? 'fleet' : name.slice(0, 50);
}

function noData(): SlipwayError {
  return new SlipwayError('invalid', 'Where to keep everything was not said.', {
    next: 'Give a directory: slipway up --data ./slipway --repository URL',
  });
}
