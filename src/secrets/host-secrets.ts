// What the evaluation of one host says about its secrets: the value of secrets-expression.ts, checked at the door.
import * as z from 'zod/mini';
import { SlipwayError } from '../util/errors.ts';

const hostSecret = z.object({
  /** Where Nix sees the file: a store path. */
  file: z.string(),
  /** Whether the file was given as a string such as `"${self}/x.age"`, which puts the whole source into the system. */
  text: z._default(z.boolean(), false),
  /** Whether a derivation makes the file, so that it is not a file of the repository. */
  built: z._default(z.boolean(), false),
  /** Whether the file is agenix-rekey's `rekeyFile`; then `target` is where the host's copy belongs, null if not in the source. */
  rekeyed: z._default(z.boolean(), false),
  target: z._default(z.nullable(z.string()), null),
  /** Hex hash of the file; null when it does not exist. */
  sha256: z.nullable(z.string().check(z.regex(/^[0-9a-f]{64}$/))),
  /** Where the host will hold the plaintext. */
  path: z.string(),
  owner: z.string(),
  group: z.string(),
  mode: z.string(),
  symlink: z.boolean(),
});

const hostSecrets = z.record(z.string(), hostSecret);

export type HostSecret = z.infer<typeof hostSecret>;
/** Secrets of a host by their attribute name. */
export type HostSecrets = z.infer<typeof hostSecrets>;

/** Checks the JSON value. Fails with `evaluation_failed`, naming the first wrong place. */
export function parseHostSecrets(host: string, value: unknown): HostSecrets {
  const parsed = hostSecrets.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new SlipwayError(
    'evaluation_failed',
    `age.secrets of ${host} has an unexpected shape at ${issue?.path.join('.') ?? '?'}.`,
    { next: 'Check that the host imports agenix’ module and sets `age.secrets.<name>.file`.' },
  );
}
