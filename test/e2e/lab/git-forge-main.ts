// A small git forge: smart HTTP through `git http-backend`, and a signed webhook for each branch that a push moved.
// Usage: git-forge-main.ts FOLDER PORT. A repository's webhook is FOLDER/<name>.git/webhook.json.
import { execFile, spawn } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';

const [folder = '', port = ''] = process.argv.slice(2);
const NOBODY = '0'.repeat(40);
const run = promisify(execFile);

createServer((request, response) => void serve(request, response)).listen(Number(port), '0.0.0.0', () => {
  process.stdout.write('listening\n');
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://forge');
  const repository = /^\/([\w.-]+\.git)\//.exec(url.pathname)?.[1];
  if (repository === undefined) return void response.writeHead(404).end('no such repository\n');
  const push = url.pathname.endsWith('/git-receive-pack');
  const before = push ? await branches(repository) : new Map<string, string>();
  await answerWithGit(request, response, url);
  if (push) await tellOfPush(repository, before);
}

/** The CGI protocol of git-http-backend(1). */
async function answerWithGit(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
  const encoding = request.headers['content-encoding'];
  const child = spawn('git', ['http-backend'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: '1',
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method ?? 'GET',
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      ...(encoding === undefined ? {} : { HTTP_CONTENT_ENCODING: encoding }),
      GIT_PROTOCOL: String(request.headers['git-protocol'] ?? ''),
      REMOTE_USER: 'lab',
    },
  });
  child.stdin.on('error', () => undefined); // git may answer before it has read everything
  request.pipe(child.stdin);
  let head = Buffer.alloc(0);
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
    if (response.headersSent) response.write(chunk);
    else head = startAnswer(response, Buffer.concat([head, chunk]));
  }
  response.end();
}

function startAnswer(response: ServerResponse, bytes: Buffer): Buffer<ArrayBuffer> {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return Buffer.from(bytes);
  let status = 200;
  for (const line of bytes.subarray(0, end).toString().split('\r\n')) {
    const [name = '', ...value] = line.split(':');
    if (name.toLowerCase() === 'status') status = Number.parseInt(value.join(':'), 10);
    else response.setHeader(name, value.join(':').trim());
  }
  response.writeHead(status);
  response.write(bytes.subarray(end + 4));
  return Buffer.alloc(0);
}

async function branches(repository: string): Promise<Map<string, string>> {
  const format = '--format=%(refname) %(objectname)';
  const { stdout } = await run('git', [
    '--git-dir',
    join(folder, repository),
    'for-each-ref',
    format,
    'refs/heads',
  ]);
  return new Map(
    stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ') as [string, string]),
  );
}

async function tellOfPush(repository: string, before: ReadonlyMap<string, string>): Promise<void> {
  const webhook = await readWebhook(repository);
  if (!webhook) return;
  for (const [ref, after] of await branches(repository)) {
    if (before.get(ref) !== after)
      await deliver(webhook, repository, { ref, before: before.get(ref) ?? NOBODY, after });
  }
}

interface Webhook {
  readonly url: string;
  readonly secret: string;
  readonly kind: 'github' | 'gitlab' | 'forgejo';
}

async function readWebhook(repository: string): Promise<Webhook | undefined> {
  const text = await readFile(join(folder, repository, 'webhook.json'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as Webhook);
}

async function deliver(
  webhook: Webhook,
  repository: string,
  push: { ref: string; after: string; before: string },
): Promise<void> {
  const name = repository.replace(/\.git$/, '');
  const body = JSON.stringify({
    ...push,
    repository: {
      full_name: `lab/${name}`,
      clone_url: `http://forge.lab:${port}/${repository}`,
      default_branch: 'main',
    },
    pusher: { name: 'lab' },
  });
  try {
    const answer = await fetch(webhook.url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...signedHeaders(webhook, body) },
      body,
      signal: AbortSignal.timeout(10_000),
    });
    process.stdout.write(`webhook ${push.ref} ${answer.status}\n`);
  } catch (error) {
    process.stdout.write(`webhook ${push.ref} failed: ${String(error)}\n`);
  }
}

function signedHeaders(webhook: Webhook, body: string): Record<string, string> {
  const signature = createHmac('sha256', webhook.secret).update(body).digest('hex');
  const delivery = randomUUID();
  const headers = {
    github: {
      'x-github-event': 'push',
      'x-github-delivery': delivery,
      'x-hub-signature-256': `sha256=${signature}`,
    },
    gitlab: {
      'x-gitlab-event': 'Push Hook',
      'x-gitlab-event-uuid': delivery,
      'x-gitlab-token': webhook.secret,
    },
    forgejo: { 'x-forgejo-event': 'push', 'x-forgejo-delivery': delivery, 'x-forgejo-signature': signature },
  };
  return headers[webhook.kind];
}
