// Who may see the status page and the API behind it: this machine (unless the configuration says no), a request
// with a token that grants `view`, or a browser session that began with such a token.
import { randomBytes } from 'node:crypto';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { LRUCache } from 'lru-cache';
import { mayView, type Caller } from '../auth/caller.ts';
import { SlipwayError } from '../util/errors.ts';
import { isLocalPeer, type AppContext } from './peer.ts';

export type ViewPolicy = 'local' | 'token' | 'open';

/** The part of src/auth's token registry that the doors need. */
export interface CallerFinder {
  findCaller(authorization: string | undefined): Promise<Caller | undefined>;
}

const COOKIE = 'slipway_session';
const SESSION_HOURS = 12;
const MAX_SESSIONS = 1_000;

export class ViewAccess {
  readonly #policy: ViewPolicy;
  readonly #tokens: CallerFinder;
  /** Session id -> the Authorization that it stands for, asked anew each time, so that a revocation counts. */
  readonly #sessions = new LRUCache<string, string>({ max: MAX_SESSIONS, ttl: SESSION_HOURS * 3_600_000 });

  constructor(policy: ViewPolicy, tokens: CallerFinder) {
    this.#policy = policy;
    this.#tokens = tokens;
  }

  async mayView(c: AppContext): Promise<boolean> {
    if (this.#policy === 'open') return true;
    if (this.#policy === 'local' && isLocalPeer(c)) return true;
    const authorization = c.req.header('authorization') ?? this.#sessions.get(getCookie(c, COOKIE) ?? '');
    return authorization !== undefined && mayView(await this.#tokens.findCaller(authorization));
  }

  /** Throws `unauthorized` unless the caller may see the fleet. */
  async assertMayView(c: AppContext): Promise<void> {
    if (await this.mayView(c)) return;
    throw new SlipwayError('unauthorized', 'Seeing this fleet needs a token.', {
      next: 'Log in at /login with the view token (keys/view.token), or send it as "Authorization: Bearer …".',
    });
  }

  /** Begins a session and sets its cookie; false when the token does not grant it. */
  async logIn(c: AppContext, token: string): Promise<boolean> {
    const authorization = `Bearer ${token}`;
    if (!mayView(await this.#tokens.findCaller(authorization))) return false;
    const id = randomBytes(32).toString('base64url');
    this.#sessions.set(id, authorization);
    setCookie(c, COOKIE, id, {
      path: '/',
      httpOnly: true,
      sameSite: 'Strict',
      secure: c.req.header('x-forwarded-proto') === 'https',
      maxAge: SESSION_HOURS * 3600,
    });
    return true;
  }

  logOut(c: AppContext): void {
    this.#sessions.delete(getCookie(c, COOKIE) ?? '');
    deleteCookie(c, COOKIE, { path: '/' });
  }
}
