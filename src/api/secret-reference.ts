// How a configuration file names a secret value without holding it: `file:/path`, `env:NAME`,
// `credential:name` (systemd's LoadCredential) or `op://vault/item/field` (1Password). Never the value itself.
import * as z from 'zod/mini';

export const secretReference = z
  .string()
  .check(
    z.regex(
      /^(file:\/[^\0\n]+|env:[A-Za-z_][A-Za-z0-9_]*|credential:[A-Za-z0-9._-]+|op:\/\/[^\0\n]+)$/,
      'not a secret reference (file:/path, env:NAME, credential:name or op://vault/item/field)',
    ),
  );
