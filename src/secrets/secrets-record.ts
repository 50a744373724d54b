// The record of re-keyed secrets, `.slipway/secrets.json` in the release tree: which source became which ciphertext for
// whom. It makes re-keying idempotent and exposure answerable. Deterministic: sorted, no times, nothing of the source commit.
import * as z from 'zod/mini';
import { secretReader } from '../api/fleet-config.ts';

export const SECRETS_RECORD_PATH = '.slipway/secrets.json';

const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));
const fingerprint = z.string().check(z.regex(/^SHA256:[A-Za-z0-9+/]{43}$/));

const recordedKey = z.strictObject({ type: z.string(), fingerprint });

const recordedSecret = z.strictObject({
  path: z.string(),
  /** The editors' file, where it has another path (agenix-rekey); the release holds it too, since its module reads it. */
  source: z.optional(z.string()),
  /** Of the file on the source branch, which editors can read. */
  sourceSha256: sha256,
  /** Of the file on the release branch, which hosts can read. */
  releaseSha256: sha256,
  /**
   * HMAC-SHA-256 of path and plaintext under the record's key: tells that a source was only re-encrypted (an editor
   * came or went), so that the hosts' files stay as they are. Without the key it says nothing about the plaintext.
   */
  plaintextMac: z.optional(sha256),
  /** Who can read the file on the release branch, each with all its keys. */
  hosts: z.array(secretReader),
});

const secretsRecord = z.strictObject({
  version: z.literal(1),
  /** Who can open `macKey`: the re-keyers. */
  rekeyers: z.array(fingerprint),
  /** The key of `plaintextMac`, as an armored age file for the re-keyers only. */
  macKey: z.optional(z.string()),
  /** Names the key behind `plaintextMac`: MACs under different keys cannot be compared. */
  macKeyId: z.optional(sha256),
  /** Who could decrypt the source branch, as the flake said. */
  editors: z.optional(z.array(fingerprint)),
  /** Tags of the fleet's hosts; what the next release's grants are judged by. */
  tags: z.optional(z.record(secretReader, z.array(z.string()))),
  /** The keys of every host that reads a secret. */
  hosts: z.record(secretReader, z.array(recordedKey)),
  secrets: z.array(recordedSecret),
});

export type RecordedKey = z.infer<typeof recordedKey>;
export type RecordedSecret = z.infer<typeof recordedSecret>;
export type SecretsRecord = z.infer<typeof secretsRecord>;

export const EMPTY_RECORD: SecretsRecord = { version: 1, rekeyers: [], hosts: {}, secrets: [] };

export interface RecordedRecipient extends RecordedKey {
  readonly host: string;
}

/** The keys that a recorded secret was encrypted to. */
export function recordedRecipients(
  record: SecretsRecord,
  secret: RecordedSecret,
): readonly RecordedRecipient[] {
  return secret.hosts.flatMap((host) => (record.hosts[host] ?? []).map((key) => ({ host, ...key })));
}

/** The path by which people know a recorded secret: the editors' file. */
export function sourcePath(secret: RecordedSecret): string {
  return secret.source ?? secret.path;
}

/** The record, or undefined when the bytes are not one. Grants are judged by it, so a strange one must stop a release. */
export function parseSecretsRecord(bytes: Uint8Array): SecretsRecord | undefined {
  try {
    const parsed = secretsRecord.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** The file's bytes: sorted, two-space indent, final newline. */
export function formatSecretsRecord(record: SecretsRecord): Buffer {
  const ordered = {
    version: record.version,
    rekeyers: record.rekeyers.toSorted(),
    ...(record.macKey !== undefined && { macKey: record.macKey }),
    ...(record.macKeyId !== undefined && { macKeyId: record.macKeyId }),
    ...(record.editors !== undefined && { editors: record.editors.toSorted() }),
    ...(record.tags !== undefined && { tags: orderTags(record.tags) }),
    hosts: Object.fromEntries(
      Object.entries(record.hosts)
        .toSorted(([a], [b]) => (a < b ? -1 : 1))
        .map(([host, keys]) => [host, keys.map(orderKey).toSorted(byFingerprint)]),
    ),
    secrets: record.secrets.toSorted((a, b) => (a.path < b.path ? -1 : 1)).map(orderSecret),
  };
  return Buffer.from(`${JSON.stringify(ordered, undefined, 2)}\n`);
}

function orderTags(tags: NonNullable<SecretsRecord['tags']>): NonNullable<SecretsRecord['tags']> {
  const entries = Object.entries(tags).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([host, names]) => [host, names.toSorted()]));
}

function orderSecret(secret: RecordedSecret): RecordedSecret {
  return {
    path: secret.path,
    ...(secret.source !== undefined && { source: secret.source }),
    sourceSha256: secret.sourceSha256,
    releaseSha256: secret.releaseSha256,
    ...(secret.plaintextMac !== undefined && { plaintextMac: secret.plaintextMac }),
    hosts: secret.hosts.toSorted(),
  };
}

function orderKey({ type, fingerprint }: RecordedKey): RecordedKey {
  return { type, fingerprint };
}

function byFingerprint(a: RecordedKey, b: RecordedKey): number {
  return a.fingerprint < b.fingerprint ? -1 : 1;
}
