// `slipway login`: remember a server and a token for it, after asking the server whether it takes the token.
import { text as readText } from 'node:stream/consumers';
import type { Command } from 'commander';
import { serverName, serverUrl } from '../api/client-config.ts';
import type { TokenAnswer } from '../api/identity-config.ts';
import { askAboutToken } from '../client/ask-about-token.ts';
import { rememberServer } from '../client/known-servers.ts';
import { readSecretReference } from '../effects/secret-reference.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';

interface LoginFlags {
  readonly token?: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Examples:
  slipway login https://cache.example.org < token
  slipway login home https://cache.example.org --token file:/run/secrets/slipway-token`;

export function registerLogin(program: Command, io: CliIo): void {
  program
    .command('login')
    .description('Remember a server and a token, for push, use and watch-store')
    .argument('<name>', 'what to call the server: caches are then <name>:<cache>, or <cache> on the last one')
    .argument('[url]', 'such as https://cache.example.org; alone it is called by the first word of its host')
    .option(
      '--token <reference>',
      'where the token is (file:/path, env:NAME, …); default: standard input; none: no token',
    )
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES)
    .action(async (first: string, second: string | undefined, flags: LoginFlags) => {
      const url = (second ?? first).replace(/\/+$/, '');
      const name = second === undefined ? firstWordOf(url) : first;
      checkWords(name, url);
      const token = await readToken(flags.token);
      const facts = token === undefined ? undefined : await askAboutToken(url, token, io.signal);
      await rememberServer(io.env, name, { url, ...(token !== undefined && { token }) });
      io.stdout(
        flags.json === true
          ? `${JSON.stringify({ name, url, token: token !== undefined, ...(facts && { granted: facts }) })}\n`
          : `Remembered ${name} (${url})${describe(token, facts)}. Next: slipway use ${name}:<cache>, slipway push ${name}:<cache> ./result\n`,
      );
    });
}

function describe(token: string | undefined, facts: TokenAnswer | undefined): string {
  if (token === undefined) return ' without a token';
  if (facts === undefined) return ', which does not say whether it takes the token';
  return `, whose token ${facts.name} may ${facts.scopes.join(', ')}`;
}

/** `cache` of https://cache.example.org; an address of numbers is `server`. */
function firstWordOf(url: string): string {
  const word = /^https?:\/\/([a-z][a-z0-9-]*)/i.exec(url)?.[1];
  return word?.toLowerCase() ?? 'server';
}

function checkWords(name: string, url: string): void {
  if (!serverName.safeParse(name).success)
    throw new SlipwayError('invalid', `"${name}" cannot be the name of a server (a-z, 0-9 and -).`);
  if (!serverUrl.safeParse(url).success)
    throw new SlipwayError('invalid', `"${url}" is not the address of a server.`, {
      next: 'It should read like https://cache.example.org, without the name of a cache.',
    });
}

async function readToken(reference: string | undefined): Promise<string | undefined> {
  if (reference === 'none') return undefined;
  const text = reference === undefined ? await readText(process.stdin) : await readSecretReference(reference);
  if (text.trim() !== '') return text.trim();
  throw new SlipwayError('invalid', 'There was no token on standard input.', {
    next: 'Make one: slipway token create --write main <name>. For public caches: --token none.',
  });
}
