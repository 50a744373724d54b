// The agent runs for years on small machines: what it loads is written down, and what it weighs is bounded.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'node:test';
import { build } from 'esbuild';
import { exec } from '../src/effects/exec.ts';
import { sleep } from '../src/util/deadline.ts';

const ROOT = path.join(import.meta.dirname, '..');
const GOLDEN = path.join(import.meta.dirname, 'golden/agent-modules.txt');
const RECORDER = path.join(import.meta.dirname, 'golden/record-modules-main.ts');
const MOST_RSS_KB = 70_000;
const SETTLE_MS = 4_000;
const KEY = `release-1:${'A'.repeat(43)}=`;

/** An agent that finds an empty repository: it polls, decides and pauses. */
async function withAgentFolder(work: (folder: string, config: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-agent-size-'));
  try {
    await exec(['git', 'init', '--quiet', '--bare', path.join(folder, 'fleet.git')]);
    const config = path.join(folder, 'agent.toml');
    const head = `host = "pi1"\nreleaseKeys = ["${KEY}"]\nstateDir = "${folder}/state"\n`;
    await writeFile(config, `${head}[[remotes]]\nurl = "${folder}/fleet.git"\npoll = 1\n`);
    await work(folder, config);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** `src/agent/x.ts`, or the name of the package for what lies in node_modules. */
function nameOf(url: string): string {
  const file = url.slice(pathToFileURL(`${ROOT}/`).href.length);
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1];
  return inPackage === undefined ? file : `package ${inPackage}`;
}

test('slipway agent run loads what test/golden/agent-modules.txt lists, and nothing of the server', async () => {
  await withAgentFolder(async (folder, config) => {
    const record = path.join(folder, 'modules');
    const argv = ['--import', RECORDER, path.join(ROOT, 'src/cli/main.ts'), 'agent', 'run', '--once'];
    const result = await exec([process.execPath, ...argv, '--config', config], {
      env: { RECORD_MODULES: record },
      timeoutMs: 60_000,
    });
    assert.equal(result.code, 0, result.stderr);
    const urls = (await readFile(record, 'utf8')).split('\n');
    const names = [...new Set(urls.filter((url) => url.startsWith('file:')).map(nameOf))].toSorted();
    const list = `${names.join('\n')}\n`;
    if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(GOLDEN, list);
    assert.equal(list, await readFile(GOLDEN, 'utf8'), 'UPDATE_GOLDEN=1 writes the list anew');
    const server = /^src\/(storage|cache|secrets|fleet|http|pipeline|auth|age)\/|^package (kysely|hono)/;
    assert.deepEqual(
      names.filter((name) => server.test(name)),
      [],
    );
    assert.deepEqual(
      urls.filter((url) => /^node:(sqlite|http2)$/.test(url)),
      [],
    );
  });
});

test('an idle agent, bundled as it is packaged, stays under 70 MB', async () => {
  await withAgentFolder(async (folder, config) => {
    await bundle(path.join(folder, 'bundle/slipway'));
    const main = path.join(folder, 'bundle/slipway/main.mjs');
    const child = spawn(process.execPath, [main, 'agent', 'run', '--config', config], { stdio: 'ignore' });
    try {
      await sleep(SETTLE_MS);
      const status = await readFile(`/proc/${child.pid ?? 0}/status`, 'utf8');
      const rss = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
      assert.ok(rss > 0 && rss < MOST_RSS_KB, `${rss} kB`);
    } finally {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
  });
});

async function bundle(outdir: string): Promise<void> {
  await build({
    entryPoints: [path.join(ROOT, 'src/cli/main.ts')],
    bundle: true,
    splitting: true,
    minify: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    outdir,
    outExtension: { '.js': '.mjs' },
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
    },
    logLevel: 'error',
  });
}
