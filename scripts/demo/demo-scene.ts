// What the demo acts on: a world with three hosts, `slipway up` on its controller side, and the example fleet. Nothing is
// simulated: the steps use the same commands, pushes and pages that a person would.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EventPage, FleetStatus, RunStatus } from '../../src/api/fleet-status.ts';
import type { RunEvent } from '../../src/api/run-events.ts';
import { releaseManifest, type ReleaseManifest } from '../../src/api/manifest.ts';
import { sleep, within } from '../../src/util/deadline.ts';
import { openWorld, type World } from '../../test/e2e/lab/world.ts';
import type { WorldProcess } from '../../test/e2e/lab/world-process.ts';
import { openFleet, type Fleet } from '../../test/e2e/lab/fleet.ts';
import { formatAgentConfig, type ServerFacts } from './agent-config.ts';

const PORT = 7480;
const SERVER_URL = `http://controller:${PORT}`;
const RUN_TIMEOUT_MS = 120_000;
const ENDED = new Set(['done', 'nothing-to-do', 'failed']);

/** A scene with nothing in it yet: `rise` boots it. `port` is where the status page shall be; 0: any free port. */
export function openDemoScene(port: number, signal: AbortSignal): DemoScene {
  return new DemoScene(port, signal);
}

export class DemoScene implements AsyncDisposable {
  pageUrl: string | undefined;
  /** Lines of the time from push to committed hosts; the first push fills it. */
  breakdown: readonly string[] = [];
  readonly signal: AbortSignal;
  readonly #port: number;
  #world: World | undefined;
  #fleet: Fleet | undefined;
  #up: WorldProcess | undefined;
  #facts: ServerFacts | undefined;

  constructor(port: number, signal: AbortSignal) {
    this.#port = port;
    this.signal = signal;
  }

  get world(): World {
    return present(this.#world);
  }

  get fleet(): Fleet {
    return present(this.#fleet);
  }

  /** The server's data directory. */
  get data(): string {
    return join(this.world.folder, 'data');
  }

  /** Everything that `slipway up` has printed. */
  get serverLines(): readonly string[] {
    return this.#up?.lines ?? [];
  }

  /** Boots the hosts, starts the server, makes the fleet and installs its first generation. */
  async rise(): Promise<void> {
    this.#world = await openWorld({ hosts: ['web1', 'pi1', 'forge1'], signal: this.signal });
    const remote = await this.world.git.create('fleet');
    this.#facts = await this.#startServer(remote.url);
    const secret = (await readFile(this.#facts.webhookSecretFile, 'utf8')).trim();
    await remote.setWebhook({ url: `${SERVER_URL}/hooks/forgejo/fleet`, secret, kind: 'forgejo' });
    const { rekeyRecipient } = this.#facts;
    const agentConfig = formatAgentConfig(remote.url, SERVER_URL, this.#facts);
    this.#fleet = await openFleet(this.world, { rekeyRecipient, agentConfig, push: false });
    await this.#giveAgentItsToken();
    await this.fleet.install();
    this.pageUrl = `http://127.0.0.1:${await this.world.expose(PORT, this.#port)}/`;
  }

  /** Commits what was changed in the checkout, if there is a message for it, and pushes; answers the commit. */
  async push(message?: string): Promise<string> {
    if (message !== undefined) await this.fleet.commit(message);
    await this.fleet.push();
    return await this.fleet.git('rev-parse', 'HEAD');
  }

  /** Waits until a run of this commit has ended, other than those that ended before. */
  async waitForRun(commit: string, known: ReadonlySet<string> = new Set()): Promise<RunStatus> {
    return await within(RUN_TIMEOUT_MS, `The run of ${commit.slice(0, 10)}`, async (signal) => {
      for (;;) {
        const { runs } = await this.status();
        const run = runs.find((one) => one.commit === commit && !known.has(one.id) && ENDED.has(one.state));
        if (run) return run;
        await sleep(50, AbortSignal.any([signal, this.signal]));
      }
    });
  }

  async status(): Promise<FleetStatus> {
    return (await this.#get('api/v1/status')) as FleetStatus;
  }

  async runEvents(run: string): Promise<readonly RunEvent[]> {
    const page = (await this.#get(`api/v1/runs/${run}/events`)) as EventPage;
    return page.events.map(({ event }) => event);
  }

  /** Starts a run of a commit by hand, as an administrator. */
  async startRun(commit: string): Promise<void> {
    const token = (await readFile(present(this.#facts).adminTokenFile, 'utf8')).trim();
    const answer = await fetch(`${present(this.pageUrl)}api/v1/runs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ repository: 'fleet', commit }),
    });
    if (!answer.ok) throw new Error(`Starting a run by hand: ${answer.status} ${await answer.text()}`);
  }

  /** The manifest that stands on the forge. */
  async manifest(): Promise<ReleaseManifest> {
    const file = 'release-manifest:manifest.json';
    const text = await this.world.runText(['git', '-C', this.fleet.remote.path, 'show', file]);
    return releaseManifest.parse(JSON.parse(text));
  }

  /** What helps to understand a failure: the ends of the server's output and of the agent's journal. */
  async explain(): Promise<readonly string[]> {
    const server = this.serverLines.slice(-15);
    if (!this.#world || this.signal.aborted) return server;
    const journal = ['journalctl', '--unit=slipway-agent', '--no-pager', '--lines=15', '--output=cat'];
    const agent = await this.world.host('pi1').execText(journal, { timeoutMs: 5_000 }).catch(String);
    return [...server, ...agent.split('\n').map((line) => `pi1: ${line}`)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#world?.[Symbol.asyncDispose]();
  }

  async #startServer(repository: string): Promise<ServerFacts> {
    const program = join(this.world.repository, 'bin/slipway');
    const listen = ['--listen', `0.0.0.0:${PORT}`, '--public-url', SERVER_URL];
    const source = ['--repository', repository, '--poll', '5', '--json'];
    this.#up = this.world.start([program, 'up', '--data', this.data, ...listen, ...source]);
    const line = await this.#up.waitForLine(/"kind":"listening"/);
    return JSON.parse(line) as ServerFacts;
  }

  /** One token, for the agent's reports and for the private cache, in the two places that look for it. */
  async #giveAgentItsToken(): Promise<void> {
    const create = ['token', 'create', 'pi1', '--agent', 'pi1', '--read', 'main', '--data', this.data];
    const { stdout, code, stderr } = await this.world.slipway(create);
    if (code !== 0) throw new Error(`slipway token create: ${stderr}`);
    const token = stdout.toString().trim();
    const write = 'umask 077; mkdir -p /etc/slipway; cat >"$1"';
    const put = async (path: string, text: string): Promise<string> =>
      await this.world.host('pi1').execText(['sh', '-euc', write, 'sh', path], { input: text });
    await put('/etc/slipway/token', token);
    await put('/etc/slipway/netrc', `machine controller login slipway password ${token}\n`);
  }

  async #get(path: string): Promise<unknown> {
    const answer = await fetch(`${present(this.pageUrl)}${path}`, { signal: this.signal });
    if (!answer.ok) throw new Error(`GET /${path}: ${answer.status} ${await answer.text()}`);
    return await answer.json();
  }
}

function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('The demo fleet is not up.');
  return value;
}
