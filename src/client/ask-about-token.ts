// Asks a server what it knows of a token, before it is remembered for every push to come.
import { tokenAnswer, type TokenAnswer } from '../api/identity-config.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseJson } from '../util/parse-json.ts';
import { CacheEndpoint } from './cache-endpoint.ts';

/**
 * `undefined` where the server cannot say: Attic, say, or an older Slipway. Fails with `unauthorized` when it does not take the
 * token, with `unavailable` when nobody answers.
 */
export async function askAboutToken(
  server: string,
  token: string,
  signal: AbortSignal,
): Promise<TokenAnswer | undefined> {
  using endpoint = new CacheEndpoint({ url: `${server}/api/v1`, token });
  const answer = await endpoint.ask('GET', 'token', { signal });
  const told = tokenAnswer.safeParse(parseJson(answer.body));
  if (answer.status === 200 && told.success) return told.data;
  if (answer.status !== 401) return undefined;
  throw new SlipwayError('unauthorized', `${server} does not know the token, or not any more.`, {
    next: 'Nothing was remembered. Make one on the server: slipway token create --write main <name>',
  });
}
