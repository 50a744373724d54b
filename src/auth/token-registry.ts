// Issues, lists and revokes tokens, and tells who a request comes from.
// Tokens are looked up on every request, so a revocation counts at once, also when another process made it.
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';
import { parseAuthorization } from './authorization-header.ts';
import { issueAtticToken, type AtticVerifier } from './attic-token.ts';
import type { Caller } from './caller.ts';
import { formatScope, parseScope, type AtticScope, type Scope } from './scope.ts';
import { formatToken, generateToken, hashSecret, secretMatches, type TokenText } from './token.ts';

const FLUSH_MS = 60_000; // how stale "last used" may be

export interface TokenRequest {
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** Milliseconds since 1970; absent: until revoked. */
  readonly expiresAt?: number;
  /** Who the holder proved to be, and the claims that say so. */
  readonly identity?: string;
  readonly claims?: Readonly<Record<string, string>>;
}

/** A token as it may be shown: all but its secret. Times are milliseconds since 1970. */
export interface TokenInfo {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly expiresAt: number | undefined;
  readonly revokedAt: number | undefined;
  readonly lastUsedAt: number | undefined;
}

export function openTokenRegistry(database: Database, now: () => number = Date.now): TokenRegistry {
  return new TokenRegistry(database, now);
}

export class TokenRegistry implements AsyncDisposable {
  readonly #database: Database;
  readonly #now: () => number;
  readonly #used = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(database: Database, now: () => number) {
    this.#database = database;
    this.#now = now;
  }

  /** Issues a token. `token` is its only copy: it cannot be shown again. */
  async create(request: TokenRequest): Promise<{ readonly info: TokenInfo; readonly token: string }> {
    if (request.scopes.length === 0)
      throw new SlipwayError('invalid', 'A token without any scope could do nothing.', {
        next: 'Give at least one of --read, --write, --contribute, --manage, --agent, --view or --admin.',
      });
    const text = generateToken();
    return { info: await this.#insert(text, request), token: formatToken(text) };
  }

  /** Issues a token in Attic's form. It is listed and can be revoked like every other, unlike those of atticadm. */
  async createAttic(
    request: TokenRequest & { readonly scopes: readonly AtticScope[] },
    verifier: AtticVerifier,
  ): Promise<{ readonly info: TokenInfo; readonly token: string }> {
    const text = generateToken();
    const info = await this.#insert(text, request);
    const { expiresAt, createdAt: now } = info;
    const token = issueAtticToken(
      { subject: request.name, tokenId: info.id, scopes: request.scopes, now, expiresAt },
      verifier,
    );
    return { info, token };
  }

  /** Whether a token of this id was issued and is revoked or expired; an id that is not known is not ended. */
  async isEnded(id: string): Promise<boolean> {
    const row = await this.#database.read
      .selectFrom('access_token')
      .select(['expires_at', 'revoked_at'])
      .where('id', '=', id)
      .executeTakeFirst();
    if (row === undefined) return false;
    if (row.revoked_at !== null || (row.expires_at ?? Infinity) <= this.#now()) return true;
    this.#noteUse(id);
    return false;
  }

  async #insert(text: TokenText, request: TokenRequest): Promise<TokenInfo> {
    const row = {
      id: text.id,
      name: request.name,
      secret_hash: hashSecret(text.secret),
      scopes: request.scopes.map(formatScope).join(' '),
      created_at: this.#now(),
      expires_at: request.expiresAt ?? null,
      revoked_at: null,
      last_used_at: null,
      identity: request.identity ?? null,
      claims: request.claims === undefined ? null : JSON.stringify(request.claims),
    };
    await this.#database.write(
      async (transaction) => await transaction.insertInto('access_token').values(row).execute(),
    );
    return infoOf(row);
  }

  async list(): Promise<TokenInfo[]> {
    await this.flush();
    const rows = await this.#database.read
      .selectFrom('access_token')
      .selectAll()
      .orderBy('created_at')
      .execute();
    return rows.map(infoOf);
  }

  /** Ends a token for good and says whose it was; revoking twice is no error. An unknown id is `not_found`. */
  async revoke(id: string): Promise<{ readonly identity: string }> {
    const found = await this.#database.write(
      async (transaction) =>
        await transaction
          .updateTable('access_token')
          .set((builder) => ({ revoked_at: builder.fn.coalesce('revoked_at', builder.val(this.#now())) }))
          .where('id', '=', id)
          .returning(['id', 'identity'])
          .executeTakeFirst(),
    );
    if (found === undefined)
      throw new SlipwayError('not_found', `There is no token with the id ${id}.`, {
        next: 'See "slipway token list".',
      });
    return { identity: found.identity ?? found.id };
  }

  /** Who sent this Authorization header; `undefined` when it is absent, unknown, wrong, expired or revoked. */
  async findCaller(authorization: string | undefined): Promise<Caller | undefined> {
    const text = parseAuthorization(authorization);
    if (text === undefined) return undefined;
    const row = await this.#database.read
      .selectFrom('access_token')
      .selectAll()
      .where('id', '=', text.id)
      .executeTakeFirst();
    if (row === undefined || !secretMatches(text.secret, row.secret_hash)) return undefined;
    const info = infoOf(row);
    if (info.revokedAt !== undefined || (info.expiresAt ?? Infinity) <= this.#now()) return undefined;
    this.#noteUse(info.id);
    return {
      id: info.id,
      name: info.name,
      scopes: info.scopes,
      ...(row.identity !== null && { identity: row.identity }),
      ...(row.claims !== null && { claims: JSON.parse(row.claims) as Record<string, string> }),
    };
  }

  /** Writes the gathered times of last use. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const used = [...this.#used];
    this.#used.clear();
    if (used.length === 0) return;
    await this.#database.write(async (transaction) => {
      for (const [id, at] of used)
        await transaction
          .updateTable('access_token')
          .set({ last_used_at: at })
          .where('id', '=', id)
          .execute();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  #noteUse(id: string): void {
    this.#used.set(id, this.#now());
    // A failed flush loses only "last used" of one minute; the next use notes it again.
    this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), FLUSH_MS).unref();
  }
}

interface TokenRow {
  readonly id: string;
  readonly name: string;
  readonly scopes: string;
  readonly created_at: number;
  readonly expires_at: number | null;
  readonly revoked_at: number | null;
  readonly last_used_at: number | null;
}

function infoOf(row: TokenRow): TokenInfo {
  return {
    id: row.id,
    name: row.name,
    scopes: row.scopes.split(' ').map(parseScope),
    createdAt: row.created_at,
    expiresAt: row.expires_at ?? undefined,
    revokedAt: row.revoked_at ?? undefined,
    lastUsedAt: row.last_used_at ?? undefined,
  };
}
