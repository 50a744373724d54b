// What `slipway login` remembers: ~/.config/slipway/servers.json, mode 0600. It holds tokens, so it is never printed.
import * as z from 'zod/mini';

export const serverName = z
  .string()
  .check(z.regex(/^[a-z0-9][a-z0-9-]{0,49}$/, 'not a name (a-z, 0-9 and -)'));

export const serverUrl = z
  .string()
  .check(z.regex(/^https?:\/\/[^\s/?#@"'\\]+$/, 'not a URL like https://host[:port]'));

export const knownServer = z.strictObject({
  url: serverUrl,
  /** Absent: only public caches. */
  token: z.optional(z.string().check(z.regex(/^[\x21-\x7e]{1,8192}$/, 'not a token'))),
});

export const clientConfig = z.strictObject({
  version: z.literal(1),
  /** The server that a cache's bare name means: the last one that was logged in to. */
  default: z.optional(serverName),
  servers: z.record(serverName, knownServer),
});

export type KnownServer = z.infer<typeof knownServer>;
export type ClientConfig = z.infer<typeof clientConfig>;
