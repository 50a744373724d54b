// Throw-away fleets for tests: keys, a source tree with encrypted files, and what the evaluation of hosts would say.
import { generateKeyPairSync } from 'node:crypto';
import { parseAgeRecipient } from '../age/age-recipient.ts';
import { encryptTo } from '../age/encrypt-to.ts';
import { formatSshWire } from '../age/ssh-wire.ts';
import type { TreeFileChange } from './apply-rekey.ts';
import type { HostSecret, HostSecrets } from './host-secrets.ts';
import type { SecretsRequest } from './secrets-request.ts';
import { memoryTree, sha256Hex, type SourceTree } from './source-tree.ts';

export interface ThrowAwayKey {
  readonly publicKey: string;
  /** PKCS#8 PEM. */
  readonly identity: Buffer;
}

export const SOURCE_ROOT = '/nix/store/0c0yl5c1i7p3i9zkqv4b8r1c2x3d4f5g-source';

export function makeKey(comment = ''): ThrowAwayKey {
  const pair = generateKeyPairSync('ed25519');
  const point = Buffer.from(pair.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
  const wire = formatSshWire('ssh-ed25519', point);
  return {
    publicKey: `ssh-ed25519 ${wire.toString('base64')} ${comment}`.trim(),
    identity: Buffer.from(pair.privateKey.export({ format: 'pem', type: 'pkcs8' })),
  };
}

export async function seal(value: string, ...readers: readonly ThrowAwayKey[]): Promise<Buffer> {
  return await encryptTo(
    readers.map((reader) => parseAgeRecipient(reader.publicKey)),
    Buffer.from(value),
  );
}

/** What evaluation says about a file of the source; `sha256` null where it does not exist. */
export function evaluatedSecret(files: ReadonlyMap<string, Buffer>, path: string): HostSecret {
  const file = files.get(path);
  return {
    file: `${SOURCE_ROOT}/${path}`,
    text: false,
    built: false,
    rekeyed: false,
    target: null,
    sha256: file === undefined ? null : sha256Hex(file),
    path: `/run/agenix/${path}`,
    owner: '0',
    group: '0',
    mode: '0400',
    symlink: true,
  };
}

/** `uses`: for each host the paths of its secrets; a host that is `undefined` failed to evaluate. */
export function makeRequest(
  files: ReadonlyMap<string, Buffer>,
  keys: Readonly<Record<string, ThrowAwayKey | undefined>>,
  uses: Readonly<Record<string, readonly string[] | undefined>>,
  previous?: SourceTree,
): SecretsRequest {
  const secretsOf = (paths: readonly string[]): HostSecrets =>
    Object.fromEntries(paths.map((path, index) => [`s${index}`, evaluatedSecret(files, path)]));
  const hosts = Object.entries(uses).map(([host, paths]) => {
    const publicKey = keys[host]?.publicKey;
    const secrets = paths === undefined ? undefined : secretsOf(paths);
    return [host, { publicKeys: publicKey === undefined ? [] : [publicKey], secrets }] as const;
  });
  return {
    hosts: Object.fromEntries(hosts),
    sourceRoot: SOURCE_ROOT,
    source: memoryTree(files),
    ...(previous !== undefined && { previous }),
  };
}

/** The release tree that the source becomes. */
export function releaseTree(
  files: ReadonlyMap<string, Buffer>,
  changes: readonly TreeFileChange[],
): Map<string, Buffer> {
  const release = new Map(files);
  for (const { path, bytes } of changes) {
    if (bytes === undefined) release.delete(path);
    else release.set(path, bytes);
  }
  return release;
}
