// What a host or an editor could ever read, from the records of all releases, and what of it is still worth something. A
// revoked reader keeps what it read: only another value takes it away. Pure.
import { sourcePath, type RecordedSecret, type SecretsRecord } from './secrets-record.ts';

/** One release, oldest first in lists. */
export interface ReleaseStep {
  readonly serial: number;
  readonly commit: string;
  /** Seconds since 1970. */
  readonly at: number;
  /** Absent when the release had no secrets. */
  readonly record: SecretsRecord | undefined;
}

/** A host by its name, or an editor or re-keyer by its key's fingerprint. */
export type Subject = { readonly host: string } | { readonly fingerprint: string };

export interface Exposure {
  readonly path: string;
  /** Serials of the first and the last release in which the subject could read the path. */
  readonly first: number;
  readonly last: number;
  /** Different values that it could read, as far as the records can tell. */
  readonly values: number;
  readonly status: ExposureStatus;
}

/**
 * `reads`: the subject still may. `known`: it no longer may, and the value is one that it could read. `rotated`: the value
 * is another now. `gone`: no host uses the path any more. `unknown`: the file changed, and the records cannot tell whether its value did.
 */
export type ExposureStatus = 'reads' | 'known' | 'rotated' | 'gone' | 'unknown';

/** By path. */
export function findExposure(releases: readonly ReleaseStep[], subject: Subject): Exposure[] {
  const seen = new Map<string, Seen>();
  for (const { serial, record } of releases) {
    for (const secret of record === undefined ? [] : readableBy(record, subject))
      remember(seen, secret, { serial, macKeyId: record?.macKeyId });
  }
  const now = releases.at(-1)?.record;
  const readable = new Set((now === undefined ? [] : readableBy(now, subject)).map(sourcePath));
  return [...seen.values()]
    .map((one) => ({
      path: one.path,
      first: one.first,
      last: one.last,
      values: one.values.size,
      status: readable.has(one.path) ? ('reads' as const) : judgeValue(one, now),
    }))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

interface Seen {
  readonly path: string;
  readonly first: number;
  last: number;
  /** Names of the values: MACs with their key, else hashes of sources. */
  readonly values: Set<string>;
  readonly sources: Set<string>;
  /** Keys under which a MAC of it is known. */
  readonly macKeys: Set<string>;
}

function readableBy(record: SecretsRecord, subject: Subject): readonly RecordedSecret[] {
  if ('host' in subject) return record.secrets.filter(({ hosts }) => hosts.includes(subject.host));
  const readers = [...(record.editors ?? []), ...record.rekeyers];
  return readers.includes(subject.fingerprint) ? record.secrets : [];
}

function remember(
  seen: Map<string, Seen>,
  secret: RecordedSecret,
  { serial, macKeyId }: { readonly serial: number; readonly macKeyId: string | undefined },
): void {
  const { sourceSha256 } = secret;
  const path = sourcePath(secret);
  const one = seen.get(path) ?? {
    path,
    first: serial,
    last: serial,
    values: new Set<string>(),
    sources: new Set<string>(),
    macKeys: new Set<string>(),
  };
  one.last = serial;
  one.sources.add(sourceSha256);
  one.values.add(valueName(secret, macKeyId));
  if (macKeyId !== undefined && secret.plaintextMac !== undefined) one.macKeys.add(macKeyId);
  seen.set(path, one);
}

function valueName({ plaintextMac, sourceSha256 }: RecordedSecret, macKeyId: string | undefined): string {
  return plaintextMac === undefined || macKeyId === undefined ? sourceSha256 : `${macKeyId} ${plaintextMac}`;
}

function judgeValue(one: Seen, now: SecretsRecord | undefined): ExposureStatus {
  const secret = now?.secrets.find((other) => sourcePath(other) === one.path);
  if (secret === undefined || now === undefined) return 'gone';
  if (one.sources.has(secret.sourceSha256) || one.values.has(valueName(secret, now.macKeyId))) return 'known';
  const { macKeyId } = now;
  const comparable = macKeyId !== undefined && secret.plaintextMac !== undefined && one.macKeys.has(macKeyId);
  return comparable ? 'rotated' : 'unknown';
}
