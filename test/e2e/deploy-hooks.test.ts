// Hooks of deploys as a fleet configures them: on the host and on the controller, for each host and for each rollout;
// what they are told, what a failing one does, and what becomes of them when something dies.
import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ExecResult } from '../../src/effects/exec.ts';
import { type DeployScene, openDeployScene } from './deploy-scene.ts';
import type { WorldHost } from './lab/world-host.ts';

interface Report {
  readonly ok: boolean;
  readonly failedHooks?: readonly object[];
  readonly hosts: readonly {
    readonly outcome: string;
    readonly reason?: string;
    readonly detail?: string;
    readonly failedHooks?: readonly object[];
  }[];
}

/** Writes down what a hook is told, and says something for the log. */
function show(file: string): string {
  return `env | grep -E "^(SLIPWAY|COMIN)_" | sort >${file}; echo said-${file}`;
}

describe('hooks of slipway deploy', { concurrency: 2 }, () => {
  let scene: DeployScene;
  before(async () => {
    scene = await openDeployScene(5);
  });
  after(async () => {
    await scene[Symbol.asyncDispose]();
  });

  /** A flake with this one host and these hooks; answers its folder. */
  async function flake(host: WorldHost, own: string, fleet = ''): Promise<string> {
    const folder = join(scene.world.folder, `flake-${host.name}`);
    await mkdir(folder, { recursive: true });
    await writeFile(
      join(folder, 'flake.nix'),
      `{ outputs = { self }: { nixosConfigurations.${host.name} = { }; slipway = {
        hosts.${host.name} = { mode = "push"; targetHost = "${host.address}"; publicKey = "${host.publicKey}";
          health = { stable = 0; timeout = 10; }; hooks = { ${own} }; };
        deploy.hooks = { ${fleet} }; }; }; }`,
    );
    return folder;
  }

  async function deploy(folder: string, toplevel: string, ...args: readonly string[]): Promise<ExecResult> {
    const to = ['--flake', `path:${folder}`, '--toplevel', toplevel, ...args];
    return await scene.world.slipway(['deploy', ...to]);
  }

  test('run before and after, here and on the host, and know what they are for', async () => {
    const { host, old } = scene.takeHost();
    const here = join(scene.world.folder, 'told');
    const folder = await flake(
      host,
      `before = [ { name = "backup"; command = ''test "$(readlink -f /run/current-system)" = ${old}; ${show('/root/before')}''; }
                  { name = "drain"; on = "controller"; command = ''${show(`${here}-before`)}''; } ];
       after = [ { name = "undrain"; on = "controller"; command = ''${show(`${here}-after`)}''; }
                 { name = "never"; only = "failed"; command = "touch /root/never"; } ];`,
      `before = [ { name = "open"; command = ''${show(`${here}-open`)}''; } ];
       after = [ { name = "close"; command = ''${show(`${here}-close`)}''; }
                 { name = "each"; on = "host"; command = ''${show('/root/after')}''; } ];`,
    );
    const next = await scene.build(host, 'v2');
    const result = await deploy(folder, next);
    assert.equal(result.code, 0, result.stdout.toString() + result.stderr);
    await scene.assertRuns(host, next);
    for (const said of ['/root/before', '/root/after', `${here}-before`, `${here}-after`, `${here}-open`])
      assert.ok(
        result.stderr.includes(`said-${said}`),
        `what ${said} printed is in the log: ${result.stderr}`,
      );
    const before = await host.shell('cat /root/before');
    for (const line of [
      'COMIN_STATUS=running',
      `SLIPWAY_HOST=${host.name}`,
      `SLIPWAY_OUT_PATH=${next}`,
      `SLIPWAY_PREVIOUS_PATH=${old}`,
      'SLIPWAY_WHEN=before',
    ])
      assert.ok(before.split('\n').includes(line), `${line} in ${before}`);
    const ended = await host.shell('cat /root/after');
    assert.match(ended, /^COMIN_STATUS=done$[^]*^SLIPWAY_GENERATION=2$[^]*^SLIPWAY_PHASE=COMMITTED$/m);
    assert.match(await readFile(`${here}-after`, 'utf8'), /^SLIPWAY_PHASE=COMMITTED$/m);
    const closed = await readFile(`${here}-close`, 'utf8');
    assert.match(closed, new RegExp(`^SLIPWAY_COMMITTED=${host.name}$[^]*^SLIPWAY_OK=yes$`, 'm'));
    assert.equal(await host.shell('ls /root/never 2>/dev/null || true'), '');
    assert.equal((await deploy(folder, next, '--no-hooks')).code, 0, 'what runs there already needs no hook');
  });

  test('one that fails before stops the deploy; what it was to prepare is undone', async () => {
    const { host, old } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const undo = 'after = [ { name = "undo"; command = "touch /root/undone"; } ];';
    const onHost = await flake(
      host,
      `before = [ { name = "backup"; command = "echo no space >&2; exit 3"; } ]; ${undo}`,
    );
    const first = JSON.parse((await deploy(onHost, next, '--json')).stdout.toString()) as Report;
    assert.deepEqual([first.hosts[0]?.outcome, first.hosts[0]?.reason], ['refused', 'hook-failed']);
    assert.match(first.hosts[0]?.detail ?? '', /Hook backup failed \(exit 3\)/);
    assert.equal(await host.shell('ls /root/undone && rm /root/undone'), '/root/undone');
    const slow = await flake(host, `before = [ { name = "backup"; timeout = 1; command = "sleep 60"; } ];`);
    const timed = JSON.parse((await deploy(slow, next, '--json')).stdout.toString()) as Report;
    assert.match(timed.hosts[0]?.detail ?? '', /Hook backup did not end within 1 s/);
    const here = await flake(
      host,
      `before = [ { name = "drain"; on = "controller"; command = "exit 4"; } ];`,
    );
    const third = JSON.parse((await deploy(here, next, '--json')).stdout.toString()) as Report;
    assert.match(third.hosts[0]?.detail ?? '', /Hook drain on this machine failed \(exit 4\)/);
    const whole = await flake(host, '', `before = [ { name = "freeze"; command = "exit 5"; } ];`);
    const fourth = await deploy(whole, next);
    assert.equal(fourth.code, 13);
    assert.match(fourth.stderr, /Nothing was begun\. Hook freeze of the rollout failed \(exit 5\)/);
    await scene.assertRuns(host, old);
    assert.equal((await deploy(whole, next, '--no-hooks')).code, 0);
    await scene.assertRuns(host, next);
  });

  test('one that fails after is told of by an exit code of its own, and changes nothing', async () => {
    const { host } = scene.takeHost();
    const next = await scene.build(host, 'v2');
    const folder = await flake(
      host,
      `after = [ { name = "tell"; command = "exit 3"; } { name = "also"; timeout = 1; command = "sleep 60"; }
                 { name = "good"; command = "true"; } ];`,
      `after = [ { name = "close"; command = "exit 6"; } ];`,
    );
    const result = await deploy(folder, next, '--json');
    assert.equal(result.code, 17, result.stdout.toString() + result.stderr);
    const report = JSON.parse(result.stdout.toString()) as Report;
    assert.deepEqual([report.ok, report.hosts[0]?.outcome], [true, 'committed']);
    assert.deepEqual(report.hosts[0]?.failedHooks, [
      { name: 'tell', when: 'after', exit: 3 },
      { name: 'also', when: 'after', exit: -1 },
    ]);
    assert.deepEqual(report.failedHooks, [{ name: 'close', when: 'after', exit: 6 }]);
    await scene.assertRuns(host, next);
  });

  test('Ctrl-C in a long backup leaves it and the deploy, and nothing stays', async () => {
    const { host, old } = scene.takeHost();
    const folder = await flake(host, `before = [ { name = "backup"; command = "sleep 100"; } ];`);
    const next = await scene.build(host, 'v2');
    const to = ['--flake', `path:${folder}`, '--toplevel', next];
    const client = scene.world.start([`${scene.world.repository}/bin/slipway`, 'deploy', ...to]);
    await client.waitForLine(/hook backup \(before\) begins/);
    await scene.world.runText(['pkill', '-INT', '-f', `^[^ ]*node .* deploy --flake path:${folder}`]);
    assert.equal((await client.ended)?.code, 130);
    assert.equal((await scene.waitForPhase(host, 'REFUSED')).reason, 'cancelled');
    await scene.assertRuns(host, old);
  });

  test('a runner that dies in a hook has changed nothing, and the hooks after it run', async () => {
    const { host, old } = scene.takeHost();
    const folder = await flake(
      host,
      `before = [ { name = "backup"; command = "touch /root/begun; sleep 100"; } ];
       after = [ { name = "undo"; only = "failed"; command = "echo $SLIPWAY_REASON >/root/undone"; } ];`,
    );
    const next = await scene.build(host, 'v2');
    const running = deploy(folder, next, '--json');
    await host.shell('until [ -e /root/begun ]; do sleep 0.1; done');
    await host.shell(`systemctl kill --kill-who=main --signal=KILL 'slipway-activate-*.service'`);
    const report = JSON.parse((await running).stdout.toString()) as Report;
    assert.deepEqual([report.hosts[0]?.outcome, report.hosts[0]?.reason], ['refused', 'interrupted']);
    assert.equal(await host.shell('cat /root/undone'), 'interrupted');
    await scene.assertRuns(host, old);
  });
});
