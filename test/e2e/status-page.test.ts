// The status page in a real browser: live without reload, by keyboard, on a small screen, and deaf to hostile logs.
// Needs Debian's chromium (scripts/setup.sh installs it).
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { chromium, type Browser, type Page } from 'playwright-core';
import { openTokenRegistry } from '../../src/auth/token-registry.ts';
import { openFleet, type Fleet } from '../../src/fleet/fleet.ts';
import { createApp } from '../../src/http/app.ts';
import { parseListenAddress } from '../../src/http/listen-address.ts';
import { openPageAssets } from '../../src/http/page-assets.ts';
import { openServer, type OpenServer } from '../../src/http/server.ts';
import { ViewAccess } from '../../src/http/view-access.ts';
import { openSqliteDatabase } from '../../src/storage/sqlite-database.ts';
import { HOSTILE_LINE, playScene } from './status-scene.ts';

interface World extends AsyncDisposable {
  readonly fleet: Fleet;
  readonly url: string;
  readonly page: Page;
  /** What the page complained about, and every address outside this server that it asked for. */
  readonly complaints: string[];
  readonly restart: () => Promise<void>;
}

let browser: Browser;
before(async () => {
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
});
after(async () => await browser.close());

async function openWorld(width = 1280): Promise<World> {
  const folder = await mkdtemp(path.join(tmpdir(), 'slipway-page-'));
  const database = await openSqliteDatabase(path.join(folder, 'slipway.db'));
  const tokens = openTokenRegistry(database);
  const repositories = [{ name: 'homelab', branch: 'main', releaseBranch: 'release' }];
  const fleet = await openFleet({ database, repositories, keepRuns: 10 });
  let closing = new AbortController();
  const listen = async (address: string): Promise<OpenServer> => {
    closing = new AbortController();
    const app = createApp({
      fleet,
      tokens,
      access: new ViewAccess('local', tokens),
      closing: closing.signal,
      findAsset: openPageAssets(),
      readWebhookSecrets: () => Promise.resolve(['x']),
      onError: (error) => complaints.push(String(error)),
    });
    return await openServer({ listen: [parseListenAddress(address)], app, onError: () => undefined });
  };
  const complaints: string[] = [];
  let server = await listen('127.0.0.1:0');
  const [url = ''] = server.urls;
  const context = await browser.newContext({ viewport: { width, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (asked) => {
    if (!asked.url().startsWith(url)) complaints.push(asked.url());
  });
  const close = async (): Promise<void> => {
    closing.abort();
    await server[Symbol.asyncDispose]();
  };
  return {
    fleet,
    url,
    page,
    complaints,
    restart: async () => {
      await close();
      server = await listen(new URL(url).host);
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await close();
      await tokens[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

test('The page shows hosts, runs and the log of the newest run', async () => {
  await using world = await openWorld();
  const { page } = world;
  await playScene(world.fleet);
  await page.goto(world.url);
  await page.getByRole('heading', { level: 1, name: 'pi1 is changing' }).waitFor();
  await page.getByRole('row', { name: /pi2 pull.*synced · 11.*healthy.*1 in quarantine/ }).waitFor();
  await page.getByRole('heading', { name: 'Run 3: running' }).waitFor();
  await page.getByRole('log').getByText('compiling unit greeting-60.c').waitFor();
  assert.deepEqual(world.complaints, []);
});

test('The page follows what happens without a reload', async () => {
  await using world = await openWorld();
  const { fleet, page } = world;
  await page.goto(world.url);
  await page.getByRole('heading', { level: 1, name: 'Waiting for the first host' }).waitFor();
  await playScene(fleet);
  await page.getByRole('heading', { name: 'Run 3: running' }).waitFor();
  const at = new Date().toISOString();
  await fleet.recordEvents('3', [
    { kind: 'log', at, stage: 'build', host: 'web1', line: 'a line that came late' },
  ]);
  await page.getByRole('log').getByText('a line that came late').waitFor();
  await fleet.endRun('3', { state: 'done', note: 'Release 12 is live.' });
  await page.getByRole('heading', { name: 'Run 3: done' }).waitFor();
  await page.getByText('Run 3: done. Release 12 is live.').waitFor({ state: 'attached' });
  assert.deepEqual(world.complaints, []);
});

test('The page comes back by itself after the server was away, and misses nothing', async () => {
  await using world = await openWorld();
  const { fleet, page } = world;
  await playScene(fleet);
  await page.goto(world.url);
  await page.getByRole('log').getByText('greeting-60.c').waitFor();
  await world.restart();
  const at = new Date().toISOString();
  await fleet.recordEvents('3', [{ kind: 'log', at, stage: 'build', line: 'written while away' }]);
  await page.getByRole('log').getByText('written while away').waitFor();
  assert.equal(await page.getByRole('log').getByText('greeting-60.c').count(), 1);
  await page.getByText('live', { exact: true }).waitFor();
});

test('The page shows hostile log text as text', async () => {
  await using world = await openWorld();
  await playScene(world.fleet);
  await world.page.goto(world.url);
  await world.page.getByRole('log').getByText(stripVTControlCharacters(HOSTILE_LINE)).waitFor();
  assert.equal(await world.page.evaluate('window.broken'), undefined);
  assert.equal(await world.page.locator('#log img, #log script').count(), 0);
  assert.deepEqual(world.complaints, []);
});

test('A failed run names its cause and the next step, chosen by keyboard alone', async () => {
  await using world = await openWorld();
  const { page } = world;
  await playScene(world.fleet);
  await page.goto(world.url);
  const link = page.getByRole('link', { name: /#2 failed/ });
  await link.waitFor();
  for (let presses = 0; presses < 30; presses++) {
    await page.keyboard.press('Tab');
    if (await link.evaluate((node) => node === node.ownerDocument.activeElement)) break;
  }
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Run 2: failed' }).waitFor();
  assert.match(page.url(), /#run=2$/);
  await page.getByText('cannot bind to port 8080').waitFor();
  await page.getByText('Next: ssh root@web1 journalctl').waitFor();
  assert.ok(
    await page
      .getByRole('link', { name: /#2 failed/ })
      .evaluate((node) => node === node.ownerDocument.activeElement),
  );
});

test('The log filters by host, and stops following when the reader scrolls up', async () => {
  await using world = await openWorld();
  const { page } = world;
  await playScene(world.fleet);
  await page.goto(world.url);
  const log = page.getByRole('log');
  await log.getByText('greeting-60.c').waitFor();
  await log.evaluate((node) => (node.scrollTop = 0));
  await page.locator('#log-follow:not(:checked)').waitFor();
  const at = new Date().toISOString();
  await world.fleet.recordEvents('3', [
    { kind: 'log', at, stage: 'build', host: 'pi1', line: 'from the other host' },
  ]);
  await log.getByText('from the other host').waitFor();
  assert.equal(await log.evaluate((node) => node.scrollTop), 0);
  await page.getByLabel('Show the lines of host').selectOption('pi1');
  await log.getByText('greeting-60.c').waitFor({ state: 'detached' });
  assert.equal(await log.locator('.log-line').count(), 1);
});

test('The page fits a screen 320 pixels wide', async () => {
  await using world = await openWorld(320);
  await playScene(world.fleet);
  await world.page.goto(`${world.url}/#run=2`);
  await world.page.getByText('cannot bind to port 8080').waitFor();
  assert.ok((await world.page.evaluate<number>('document.documentElement.scrollWidth')) <= 320);
});
