import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { AgentReport } from '../api/agent-report.ts';
import { isCode, type ErrorCode } from '../util/errors.ts';
import { planProbes } from './probe-plan.ts';
import { runProbes } from './probe.ts';
import { sendReport } from './report-client.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function withServer(handler: Handler, work: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const REPORT = { version: 1, host: 'pi1' } as AgentReport;
process.env['REPORT_TEST_TOKEN'] = 'slw_secret';
const TOKEN = 'env:REPORT_TEST_TOKEN';
const signal = AbortSignal.timeout(20_000);

test('sendReport() posts with the host’s token and hears the answer', async () => {
  const seen: string[] = [];
  const handler: Handler = (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization}`);
    response.end(JSON.stringify({ version: 1, hold: 'soaking', nextPollSeconds: 7, later: true }));
  };
  await withServer(handler, async (url) => {
    const answer = await sendReport({ url: `${url}/`, token: TOKEN }, REPORT, signal);
    assert.deepEqual([answer.hold, answer.nextPollSeconds], ['soaking', 7]);
    assert.deepEqual(seen, ['POST /api/agent/v1/report Bearer slw_secret']);
  });
});

const FAILURES: readonly (readonly [string, Handler, ErrorCode])[] = [
  ['a refused token', (_, response) => response.writeHead(403).end(), 'unauthorized'],
  ['a server error', (_, response) => response.writeHead(500).end(), 'unavailable'],
  ['a redirect', (_, response) => response.writeHead(302, { location: '/x' }).end(), 'unavailable'],
  ['something else than JSON', (_, response) => response.end('<html>'), 'invalid'],
  ['an answer without end', (_, response) => response.end('x'.repeat(100_000)), 'too_large'],
  ['a connection that is cut', (request) => request.socket.destroy(), 'unavailable'],
];

for (const [name, handler, code] of FAILURES) {
  test(`sendReport() on ${name} fails with ${code}, without the token in the message`, async () => {
    await withServer(handler, async (url) => {
      await assert.rejects(sendReport({ url, token: TOKEN }, REPORT, signal), (error) => {
        assert.ok(isCode(error, code), String(error));
        assert.doesNotMatch(error.message, /slw_secret/);
        return true;
      });
    });
  });
}

const someCaches: Handler = (request, response) => {
  const status = {
    '/ok/nix-cache-info': 200,
    '/private/nix-cache-info': 401,
    '/broken/nix-cache-info': 502,
  };
  response.writeHead(status[request.url as keyof typeof status] ?? 404).end();
};

test('runProbes() takes any answer but a server error as a sign of life', async () => {
  await withServer(someCaches, async (url) => {
    const probes = planProbes({
      remotes: [],
      caches: [`${url}/ok`, `${url}/private?x=1`, `${url}/broken`, 'http://127.0.0.1:1/none'].map((one) => ({
        url: one,
      })),
      controller: undefined,
      wanted: { remote: true, cache: true, controller: true },
    });
    const passed = await runProbes(probes, { remotes: [], timeoutMs: 2_000, signal });
    assert.deepEqual(passed, [`cache ${url}/ok`, `cache ${url}/private?x=1`]);
  });
});

test('runProbes() gives a silent server up after its time', async () => {
  await withServer(
    () => undefined,
    async (url) => {
      const wanted = { remote: false, cache: false, controller: true };
      const probes = planProbes({ remotes: [], caches: [], controller: { url }, wanted });
      assert.deepEqual(await runProbes(probes, { remotes: [], timeoutMs: 200, signal }), []);
    },
  );
});
