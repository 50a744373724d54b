// HTTP to one upstream: kept connections, credentials that never leave its host, few redirects and none further inside
// the network (redirect-rules.ts), a deadline for the headers and one for silence in a body.
import { lookup, type LookupAddress, type LookupOptions } from 'node:dns';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { deadline } from '../../util/deadline.ts';
import { messageOf, SlipwayError } from '../../util/errors.ts';
import { addressKind, mayFollow, mayRedirectTo, type AddressKind } from './redirect-rules.ts';

const SOCKETS = 32;
const MOST_REDIRECTS = 3;
/** A body that pauses for longer is given up. */
const SILENCE_MS = 30_000;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

export interface UpstreamGet {
  /** Ends the request and its body. */
  readonly signal: AbortSignal;
  /** For the headers of the answer, redirects included. */
  readonly headersMs: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: 'HEAD';
}

export class UpstreamClient implements Disposable {
  readonly #base: URL;
  readonly #authorize: () => Promise<string | undefined>;
  readonly #agents = new Map<string, HttpAgent>();
  /** Of the upstream itself; until it has answered, nothing but public addresses may be redirected to. */
  #kind: AddressKind = 'public';

  /** `authorize` gives the Authorization header's value, for the upstream's own host only. */
  constructor(url: string, authorize: () => Promise<string | undefined>) {
    this.#base = new URL(url.endsWith('/') ? url : `${url}/`);
    this.#authorize = authorize;
  }

  /**
   * GET (or HEAD) of a file below the upstream's URL, or of what its narinfos name. The body must be read or destroyed. No answer,
   * too many redirects, or one to where we must not go: `unavailable`.
   */
  async get(file: string, wanted: UpstreamGet): Promise<IncomingMessage> {
    const headers = deadline(wanted.headersMs, wanted.signal);
    let url = this.#resolve(file, this.#base);
    for (let hop = 0; ; hop++) {
      const response = await this.#send(url, wanted, headers);
      if (url.host === this.#base.host) this.#kind = addressKind(response.socket.remoteAddress ?? '');
      const { location } = response.headers;
      if (!REDIRECTS.has(response.statusCode ?? 0) || location === undefined) return response;
      response.destroy();
      if (hop === MOST_REDIRECTS)
        throw unavailable(this.#base, `it redirects more than ${MOST_REDIRECTS} times`);
      url = this.#resolve(location, url);
    }
  }

  [Symbol.dispose](): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  #resolve(target: string, from: URL): URL {
    const url = URL.parse(target, from.href);
    if (url === null || !mayFollow(from, this.#kind, url))
      throw unavailable(this.#base, 'it redirects to where this server must not go');
    return url;
  }

  async #send(url: URL, wanted: UpstreamGet, headers: AbortSignal): Promise<IncomingMessage> {
    const own = url.host === this.#base.host && url.protocol === this.#base.protocol;
    const authorization = own ? await this.#authorize() : undefined;
    const start = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const request = start(url, {
      method: wanted.method ?? 'GET',
      agent: this.#agentFor(url.protocol, own),
      headers: {
        ...wanted.headers,
        'user-agent': 'Slipway',
        ...(authorization !== undefined && { authorization }),
      },
      signal: wanted.signal,
    });
    request.setTimeout(SILENCE_MS, () => request.destroy(new Error(`silent for ${SILENCE_MS / 1000} s`)));
    const expire = (): void => void request.destroy(new Error('no answer in time'));
    headers.addEventListener('abort', expire, { once: true });
    try {
      return await new Promise<IncomingMessage>((resolve, reject) => {
        request.once('response', resolve).once('error', reject);
        if (headers.aborted) expire();
        request.end();
      });
    } catch (error) {
      throw unavailable(this.#base, messageOf(error), error);
    } finally {
      headers.removeEventListener('abort', expire);
      request.on('error', () => undefined); // later failures reach whoever reads the body
    }
  }

  #agentFor(protocol: string, own: boolean): HttpAgent {
    const key = `${protocol} ${own}`;
    const known = this.#agents.get(key);
    if (known) return known;
    const options = { keepAlive: true, maxSockets: SOCKETS, ...(!own && { lookup: this.#lookupStrictly }) };
    const agent = protocol === 'https:' ? new HttpsAgent(options) : new HttpAgent(options);
    this.#agents.set(key, agent);
    return agent;
  }

  /** A name that leads inside is as good as an address that does; what was checked is what is connected to. */
  readonly #lookupStrictly: LookupFunction = (host, options: LookupOptions, done) => {
    lookup(host, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      const [first, ...others] = (addresses ?? []).filter(({ address }) =>
        mayRedirectTo(this.#kind, address),
      );
      if (error !== null || first === undefined)
        done(error ?? new Error(`${host} is inside the network`), '', 4);
      else if (options.all === true) done(null, [first, ...others]);
      else done(null, first.address, first.family);
    });
  };
}

export function unavailable(url: URL, why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('unavailable', `The upstream ${url.host} does not serve: ${why}.`, { cause });
}

/** The text of a body; more than `limit` bytes are `too_large`. */
export async function readUpstreamText(response: IncomingMessage, limit: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > limit) throw new SlipwayError('too_large', `The upstream sent more than ${limit} bytes.`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
