// Reads a server's TOML configuration; every complaint names the file, the key or the line, and never shows a value.
import { readFile } from 'node:fs/promises';
import { parse, TomlError } from 'smol-toml';
import { formatIssue } from '../api/issue-text.ts';
import { serverConfig, type ServerConfig } from '../api/server-config.ts';
import { SlipwayError } from '../util/errors.ts';

/** What flags say stands over what the file says. */
export type ConfigFlags = Readonly<Record<string, unknown>>;

/** The configuration of `file` (none: only flags and defaults). */
export async function readServerConfig(file: string | undefined, flags: ConfigFlags): Promise<ServerConfig> {
  const written = file === undefined ? {} : parseToml(file, await readText(file));
  const parsed = serverConfig.safeParse({ ...written, ...flags });
  if (parsed.success) return parsed.data;
  const where = file === undefined ? 'The settings do not fit' : `The configuration ${file} does not fit`;
  throw new SlipwayError('invalid', `${where}: ${formatIssue(parsed.error.issues[0])}.`, {
    next: 'See docs/CONFIGURATION.md for every key; "slipway up --help" for the flags.',
  });
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new SlipwayError('invalid', `The configuration ${file} cannot be read.`, {
      next: 'Check --config.',
      cause,
    });
  }
}

function parseToml(file: string, text: string): Record<string, unknown> {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    // The rest of its message shows the line, in which a secret may stand.
    const [what = ''] = cause.message.split('\n');
    throw new SlipwayError('invalid', `${file}:${cause.line}:${cause.column}: ${what}`, {
      next: 'Correct the TOML.',
    });
  }
}
