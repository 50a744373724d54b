// An identity provider on loopback, with keys of its own: discovery, key set, and tokens as the forges' jobs get them.
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { signJwt, type JwtKey } from '../../src/auth/json-web-token.ts';

export interface Issuer extends AsyncDisposable {
  readonly url: string;
  /** Paths that were asked for. */
  readonly requests: string[];
  /** What the next requests get instead of the truth. */
  answer: ((path: string) => { status: number; body: string; headers?: Record<string, string> }) | undefined;
  /** A token with these claims over those that make it valid. */
  readonly token: (claims: Record<string, unknown>, keyId?: string, key?: JwtKey) => string;
  /** Replaces the signing key, as providers do now and then. */
  readonly rotate: () => void;
}

export async function openIssuer(): Promise<Issuer> {
  let [keyId, pair] = ['key-1', generateKeyPairSync('rsa', { modulusLength: 2048 })];
  const requests: string[] = [];
  const truth = (path: string): object =>
    path === '/jwks'
      ? { keys: [jwkOf(pair.publicKey, keyId)] }
      : { issuer: issuer.url, jwks_uri: `${issuer.url}/jwks` };
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    requests.push(path);
    const given = issuer.answer?.(path) ?? { status: 200, body: JSON.stringify(truth(path)) };
    response.writeHead(given.status, given.headers).end(given.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const issuer: Issuer = {
    url,
    requests,
    answer: undefined,
    token: (claims, id = keyId, key = { algorithm: 'RS256', key: pair.privateKey }) => {
      const now = Math.floor(Date.now() / 1000);
      return signJwt({ iss: url, aud: 'slipway', iat: now, nbf: now, exp: now + 300, ...claims }, key, id);
    },
    rotate: () => {
      [keyId, pair] = ['key-2', generateKeyPairSync('rsa', { modulusLength: 2048 })];
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return issuer;
}

function jwkOf(key: KeyObject, kid: string): Record<string, unknown> {
  return { ...key.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
}

/** What jobs of the forges carry; numbers and text as each of them writes it. */
export const GITHUB_JOB = {
  sub: 'repo:me@77/fleet@4711:ref:refs/heads/main',
  repository: 'me/fleet',
  repository_id: '4711',
  repository_owner_id: '77',
  ref: 'refs/heads/main',
  ref_protected: 'true',
  event_name: 'push',
  runner_environment: 'github-hosted',
  run_id: '1',
  sha: 'a'.repeat(40),
};

export const GITLAB_JOB = {
  sub: 'project_path:me/fleet:ref_type:branch:ref:main',
  project_path: 'me/fleet',
  project_id: '12',
  ref: 'main',
  ref_path: 'refs/heads/main',
  ref_protected: 'true',
  pipeline_source: 'push',
  runner_id: 5,
};

export const FORGEJO_JOB = {
  sub: 'repo:me-3/fleet-9:ref:refs/heads/main',
  repository: 'me/fleet',
  repository_id: '9',
  ref: 'refs/heads/main',
  event_name: 'push',
};
