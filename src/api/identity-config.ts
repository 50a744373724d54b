// How the server's configuration names who may come with a token of somebody else: job tokens of forges (OpenID Connect)
// and tokens signed with the key of an Attic server.
import * as z from 'zod/mini';
import { secretReference } from './secret-reference.ts';

const slug = z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,29}$/, 'not a name (a-z, 0-9 and -)'));
const claimValue = z.string().check(z.minLength(1), z.maxLength(500));
const claimName = z.string().check(z.regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, 'not the name of a claim'));
const grant = z
  .string()
  .check(
    z.regex(
      /^(read|write|contribute):[A-Za-z0-9*][A-Za-z0-9*+_.~-]{0,99}$/,
      'not read:, write: or contribute:<cache>',
    ),
  );

/** Names can be given to somebody else after a rename; these numbers cannot. */
const IMMUTABLE = ['repository_id', 'project_id'];

export const oidcRule = z.strictObject({
  /** Every claim named here must be in the token with one of the values. */
  claims: z
    .record(claimName, z.union([claimValue, z.array(claimValue).check(z.minLength(1), z.maxLength(100))]))
    .check(
      z.refine(
        (claims) => IMMUTABLE.some((name) => name in claims),
        'a rule must name repository_id or project_id: names can change hands',
      ),
    ),
  grants: z.array(grant).check(z.minLength(1), z.maxLength(50)),
});

export const oidcProvider = z.strictObject({
  /** Part of the identity under which writes are recorded: `<name>-<repository_id>`. */
  name: slug,
  /** As `iss` of the tokens has it. */
  issuer: z
    .string()
    .check(
      z.regex(
        /^(https:\/\/[^\s?#@]+|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(\/[^\s?#@]*)?)$/,
        'not an https URL',
      ),
    ),
  /** What `aud` of the tokens must hold. */
  audience: claimValue,
  rules: z.array(oidcRule).check(z.minLength(1), z.maxLength(200)),
});

/** Keys of an Attic server whose tokens are good here too; values as in its server.toml. */
export const atticKeys = z.strictObject({
  hs256: z._default(z.array(secretReference), []),
  rs256: z._default(z.array(secretReference), []),
  issuer: z.optional(claimValue),
  audiences: z.optional(z.array(claimValue).check(z.minLength(1))),
});

export type OidcProvider = z.infer<typeof oidcProvider>;
export type OidcRule = z.infer<typeof oidcRule>;

/** Answer of POST /api/v1/token: a token of ours for a job token. */
export const tokenExchangeAnswer = z.object({
  token: z.string(),
  /** ISO 8601. */
  expiresAt: z.string(),
  identity: z.string(),
  scopes: z.array(z.string()),
});
export type TokenExchangeAnswer = z.infer<typeof tokenExchangeAnswer>;

/** Answer of GET /api/v1/token to the token that asks. */
export const tokenAnswer = z.object({
  name: z.string(),
  identity: z.optional(z.string()),
  scopes: z.array(z.string()),
});
export type TokenAnswer = z.infer<typeof tokenAnswer>;
