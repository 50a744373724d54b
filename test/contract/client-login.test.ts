// `slipway login` and `slipway use` against a real server, in a home of their own. No nix needed.
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { CliIo } from '../../src/cli/cli-io.ts';
import { main } from '../../src/cli/main.ts';
import { publicKeyOf } from '../../src/nix/signature.ts';
import { issueToken, openCacheServer } from './cache-server.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-login-'));
const server = await openCacheServer(join(folder, 'data'));
after(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

interface Home {
  readonly path: string;
  readonly run: (...argv: string[]) => Promise<{ code: number; out: string }>;
  readonly read: (name: string) => string;
}

function home(name: string): Home {
  const path = join(folder, name);
  mkdirSync(path);
  return {
    path,
    read: (file) => readFileSync(join(path, '.config', file), 'utf8'),
    run: async (...argv) => {
      let out = '';
      const write = (text: string): void => void (out += text);
      const io: CliIo = {
        stdout: write,
        stderr: write,
        env: { HOME: path },
        cwd: path,
        terminal: false,
        color: false,
        signal: AbortSignal.timeout(20_000),
      };
      return { code: await main(argv, io), out };
    },
  };
}

async function tokenFile(name: string, ...scopes: string[]): Promise<string> {
  const path = join(folder, name);
  writeFileSync(path, await issueToken(server, ...scopes), { mode: 0o600 });
  return `file:${path}`;
}

test('login and use write what Nix needs, privately; again changes nothing; several caches share a host', async () => {
  const { path, run, read } = home('plain');
  const token = await tokenFile('reader', 'read:*');
  const login = await run('login', 'home', `${server.url}/`, '--token', token);
  assert.equal(login.code, 0, login.out);
  const secret = readFileSync(token.slice('file:'.length), 'utf8');
  assert.ok(!login.out.includes(secret));
  assert.equal(statSync(join(path, '.config/slipway/servers.json')).mode & 0o777, 0o600);
  for (const cache of ['home:secret', 'main', `${server.url}/main`]) {
    const used = await run('use', cache);
    assert.equal(used.code, 0, used.out);
    assert.ok(!used.out.includes(secret));
  }
  const keys = await Promise.all(
    ['secret', 'main'].map(async (name) => (await server.cache.keys.get(name)).map(publicKeyOf)),
  );
  assert.equal(
    read('nix/nix.conf'),
    `extra-substituters = ${server.url}/secret ${server.url}/main\nextra-trusted-public-keys = ${keys.flat().join(' ')}\nnetrc-file = ${join(path, '.config/nix/netrc')}\n`,
  );
  assert.equal(read('nix/netrc'), `machine 127.0.0.1 login slipway password ${secret}\n`);
  assert.equal(statSync(join(path, '.config/nix/netrc')).mode & 0o777, 0o600);
  assert.match((await run('use', 'main')).out, /already/);
});

test('use keeps what stands there, and the netrc file that nix.conf names', async () => {
  const { path, run, read } = home('kept');
  mkdirSync(join(path, '.config/nix'), { recursive: true });
  const netrc = join(path, 'my-netrc');
  writeFileSync(join(path, '.config/nix/nix.conf'), `max-jobs = 3\nnetrc-file = ${netrc}\n`);
  writeFileSync(netrc, 'machine other login me password x\n');
  await run('login', 'home', server.url, '--token', await tokenFile('kept-token', 'read:main'));
  assert.equal((await run('use', 'main')).code, 0);
  assert.match(read('nix/nix.conf'), /^max-jobs = 3\n/);
  assert.match(readFileSync(netrc, 'utf8'), /^machine other login me password x\nmachine 127\.0\.0\.1 /);
  assert.equal(statSync(netrc).mode & 0o777, 0o600);
});

test('login asks what the token may, and remembers none that the server does not take', async () => {
  const { path, run, read } = home('asked');
  const known = 'slw_known';
  const asked = createServer(({ headers, url }, response) => {
    const isKnown = url === '/api/v1/token' && headers.authorization === `Bearer ${known}`;
    response.writeHead(isKnown ? 200 : 401, { 'content-type': 'application/json' });
    response.end(JSON.stringify(isKnown ? { name: 'ci', scopes: ['write:main'] } : { code: 'unauthorized' }));
  });
  await new Promise<void>((resolve) => asked.listen(0, '127.0.0.1', resolve));
  after(() => asked.close());
  const url = `http://localhost:${(asked.address() as AddressInfo).port}`;
  for (const token of [known, 'slw_wrong']) writeFileSync(join(path, token), token);
  const wrong = await run('login', url, '--token', `file:${join(path, 'slw_wrong')}`);
  assert.match(wrong.out, /does not know the token[^]*Nothing was remembered/);
  assert.equal(existsSync(join(path, '.config/slipway/servers.json')), false);
  const right = await run('login', url, '--token', `file:${join(path, known)}`);
  assert.match(right.out, /^Remembered localhost \(.*\), whose token ci may write:main\./);
  assert.match(read('slipway/servers.json'), /"default": "localhost"/);
});

test('what cannot be is refused with the next step, and changes nothing', async () => {
  const { path, run } = home('refused');
  assert.match((await run('use', 'main')).out, /slipway login/);
  assert.match((await run('push', 'main', '/nix/store/x')).out, /is not a store path|slipway login/);
  assert.match((await run('login', 'Bad Name', server.url, '--token', 'none')).out, /cannot be the name/);
  assert.match(
    (await run('login', 'x', 'https://user:password@host', '--token', 'none')).out,
    /not the address/,
  );
  assert.equal((await run('login', 'home', server.url, '--token', 'none')).code, 0);
  assert.match((await run('use', 'secret')).out, /token/);
  assert.match((await run('use', 'home:absent')).out, /token|no cache/);
  mkdirSync(join(path, '.config/nix'), { recursive: true });
  symlinkSync('/nix/store/00000000000000000000000000000000-nix.conf', join(path, '.config/nix/nix.conf'));
  writeFileSync(
    join(path, '.config/slipway/servers.json'),
    '{"version":1,"servers":{"x":{"url":"file:///etc"}}}',
  );
  assert.match((await run('use', 'x:main')).out, /does not fit/);
});
