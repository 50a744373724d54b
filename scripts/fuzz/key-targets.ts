// Fuzz targets of keys and tokens: JWTs, age headers and identities, OpenSSH keys.
import { parseAgeHeader, removeArmor } from '../../src/age/age-header.ts';
import { parseAgeIdentities } from '../../src/age/age-identity.ts';
import { parseSshPrivateKey } from '../../src/age/ssh-private-key.ts';
import { parseSshPublicKey, readSshPublicKey } from '../../src/age/ssh-public-key.ts';
import { parseAtticKey, verifyAtticToken } from '../../src/auth/attic-token.ts';
import { parseJwt, signJwt, verifyJwt } from '../../src/auth/json-web-token.ts';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, type FuzzTarget } from './fuzz-target.ts';

const SECRET = Buffer.alloc(32, 7).toString('base64');

/** Every text in the vectors that looks like a key or an age file. */
function vectorTexts(wanted: RegExp): Buffer[] {
  const file = join(import.meta.dirname, '../../test/vectors/age/ssh.json');
  const found: Buffer[] = [];
  JSON.parse(readFileSync(file, 'utf8'), (_, value: unknown) => {
    if (typeof value === 'string' && wanted.test(value)) found.push(Buffer.from(value));
    if (typeof value === 'string' && /^[A-Za-z0-9+/=]{80,}$/.test(value)) {
      const bytes = Buffer.from(value, 'base64');
      if (wanted.test(bytes.toString('latin1'))) found.push(bytes);
    }
    return value;
  });
  return found;
}

const KEY = parseAtticKey('HS256', SECRET);
const CLAIMS = {
  sub: 'a',
  exp: 4_000_000_000,
  nbf: 1,
  'https://jwt.attic.rs/v1': { caches: { '*': { r: 1, w: 1 }, 'a-*': { cc: 1 } } },
};

const jwt: FuzzTarget = {
  name: 'jwt',
  seeds: () => [signJwt(CLAIMS, KEY), signJwt({ aud: ['x'], iss: 'y' }, KEY, 'kid')],
  words: ['.', 'eyJhbGciOiJub25lIn0', 'eyJhbGciOiJSUzI1NiJ9'],
  run: (input) => {
    const parsed = parseJwt(input.toString());
    if (parsed !== undefined) verifyJwt(parsed, KEY, { now: 5 });
    verifyAtticToken(input.toString(), { key: KEY }, 5_000);
  },
};

/** Claims that somebody with the key has signed. */
const atticClaims: FuzzTarget = {
  name: 'attic-claims',
  json: true,
  seeds: () => [JSON.stringify(CLAIMS)],
  run: (input) => {
    let claims: unknown;
    try {
      claims = JSON.parse(input.toString());
    } catch {
      return;
    }
    if (typeof claims !== 'object' || claims === null) return;
    const token = signJwt(claims as Readonly<Record<string, unknown>>, KEY);
    verifyAtticToken(token, { key: KEY }, 5_000);
  },
};

const ageHeader: FuzzTarget = {
  name: 'age-header',
  seeds: () => [
    'age-encryption.org/v1\n-> X25519 abc\ndGVzdA\n--- aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28\nbody',
    ...vectorTexts(/^age-encryption\.org|BEGIN AGE/),
  ],
  words: ['-> ', '---', '\n', 'ssh-ed25519', 'age-encryption.org/v1', '-----BEGIN AGE ENCRYPTED FILE-----\n'],
  run: (input) => {
    const header = parseAgeHeader(input);
    expect(JSON.stringify(header).length < 20 * input.length + 1000, 'a header grows');
    removeArmor(input);
  },
};

const ageIdentity: FuzzTarget = {
  name: 'age-identity',
  seeds: () => [
    '# created: now\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n',
    ...vectorTexts(/PRIVATE KEY/),
  ],
  words: ['AGE-SECRET-KEY-1', '-----BEGIN OPENSSH PRIVATE KEY-----\n', '\n'],
  run: async (input) => void (await parseAgeIdentities(input)),
};

const sshPrivateKey: FuzzTarget = {
  name: 'ssh-private-key',
  seeds: () => vectorTexts(/PRIVATE KEY/),
  words: ['openssh-key-v1', 'ssh-ed25519', 'none', 'aes256-ctr', 'bcrypt'],
  run: (input) => {
    for (const file of [input, armoredKey(input)]) refuse(() => parseSshPrivateKey(file));
  },
};

function armoredKey(wire: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from('openssh-key-v1\0'), wire])
    .toString('base64')
    .replaceAll(/.{70}/g, '$&\n');
  return Buffer.from(`-----BEGIN OPENSSH PRIVATE KEY-----\n${body}\n-----END OPENSSH PRIVATE KEY-----\n`);
}

const sshPublicKey: FuzzTarget = {
  name: 'ssh-public-key',
  seeds: () => [
    ...vectorTexts(/^ssh-(ed25519|rsa) /),
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh me',
  ],
  words: ['ssh-rsa ', 'ssh-ed25519 ', 'AAAAB3NzaC1yc2E'],
  run: (input) => {
    refuse(() => parseSshPublicKey(input.toString()));
    readSshPublicKey(input);
  },
};

function refuse(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Error && error.constructor.name === 'SlipwayError')) throw error;
  }
}

export const KEY_TARGETS: readonly FuzzTarget[] = [
  jwt,
  atticClaims,
  ageHeader,
  ageIdentity,
  sshPrivateKey,
  sshPublicKey,
];
