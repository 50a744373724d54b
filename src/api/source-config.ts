// Where a cache finds paths beside what it holds: other binary caches (upstreams) and this machine's own store.
// Used by the server's configuration, and kept with the cache in the database: secrets are references, never values.
import * as z from 'zod/mini';
import { secretReference } from './secret-reference.ts';

const publicKey = z
  .string()
  .check(z.regex(/^[A-Za-z0-9._+-]{1,128}:[A-Za-z0-9+/]{43}=$/, 'not a public key like name:base64'));

export const upstreamConfig = z
  .strictObject({
    /** Of the cache, such as `https://cache.nixos.org` or `https://slipway.example.org/main`. */
    url: z
      .string()
      .check(
        z.regex(/^https?:\/\/[^\s?#@]+$/, 'not a URL like https://host/cache, without credentials'),
        z.maxLength(500),
      ),
    /** What must have signed a path: one of these keys. */
    keys: z.array(publicKey).check(z.minLength(1), z.maxLength(20)),
    /** Sent as Bearer token. */
    token: z.optional(secretReference),
    /** A netrc file's text; the entry for the upstream's host is used. */
    netrc: z.optional(secretReference),
    /** Whether the cache's own key signs what the upstream's key has signed. */
    sign: z._default(z.boolean(), false),
  })
  .check(
    z.refine(
      ({ token, netrc }) => token === undefined || netrc === undefined,
      'an upstream has a token or a netrc, not both',
    ),
  );

export const localStoreConfig = z.strictObject({
  /** Below which the store and its database lie: `/` on most machines. */
  root: z._default(z.string().check(z.regex(/^\/[^\0\n]*$/, 'not an absolute path')), '/'),
  /** Whether the cache's own key signs what this machine's store holds. */
  sign: z._default(z.boolean(), true),
});

export const upstreamList = z.array(upstreamConfig).check(
  z.maxLength(20),
  z.refine(
    (all) => new Set(all.map(({ url }) => url)).size === all.length,
    'two upstreams have the same URL',
  ),
);

export type UpstreamConfig = z.infer<typeof upstreamConfig>;
export type LocalStoreConfig = z.infer<typeof localStoreConfig>;
