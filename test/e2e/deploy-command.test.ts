// `slipway deploy`, `status` and `rollback` as a person types them, on a flake's hosts.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ExecResult } from '../../src/effects/exec.ts';
import { type Fleet, openFleet } from './lab/fleet.ts';
import { openWorld, type World } from './lab/world.ts';

interface Report {
  readonly ok: boolean;
  readonly hosts: readonly {
    readonly host: string;
    readonly outcome: string;
    readonly error?: { code: string };
  }[];
}

describe('slipway deploy', () => {
  let world: World;
  let fleet: Fleet;
  let folder: string;
  before(async () => {
    world = await openWorld({ hosts: ['web1', 'pi1'] });
    fleet = await openFleet(world);
    await fleet.install();
    folder = join(world.folder, 'bootstrap'); // the fleet as it is installed: its secrets open on the hosts
  });
  after(async () => {
    await world[Symbol.asyncDispose]();
  });

  async function slipway(...args: readonly string[]): Promise<ExecResult> {
    return await world.slipway([...args, '--flake', `path:${folder}`]);
  }

  test('does nothing to hosts that are there already, and by default means the push-mode hosts', async () => {
    const result = await slipway('deploy', '--json');
    assert.equal(result.code, 0, result.stdout.toString() + result.stderr);
    const report = JSON.parse(result.stdout.toString()) as Report;
    assert.deepEqual(
      report.hosts.map(({ host, outcome }) => [host, outcome]),
      [['web1', 'unchanged']],
    );
  });

  test('builds the flake and deploys the named hosts, in their order', async () => {
    for (const host of ['pi1', 'web1']) await writeFile(join(folder, `hosts/${host}/version`), '2.0.0\n');
    const plan = await slipway('deploy', 'pi1', 'web1', '--dry-run');
    assert.match(
      plan.stdout.toString(),
      /^pi1: would copy and try \S+-pi1-[^]*paths: \d+ new[^]*\nweb1: would copy and try \S+-web1-[^]* to copy\n[^]*free: /,
    );
    const result = await slipway('deploy', 'pi1', 'web1');
    assert.equal(result.code, 0, result.stderr);
    assert.match(
      result.stdout.toString(),
      /ok pi1 is on .*-pi1-.* \(generation 2\)\.\nok web1 is on .*-web1-/,
    );
    assert.equal((await fleet.hello('web1')).version, '2.0.0');
    assert.equal((await fleet.hello('pi1')).version, '2.0.0');
  });

  test("a host that rolls back does not stop the others, and its exit code is the command's", async () => {
    for (const host of ['pi1', 'web1']) await writeFile(join(folder, `hosts/${host}/version`), '3.0.0\n');
    await writeFile(join(folder, 'hosts/pi1/break'), 'hello-start\nhello\nunit\n');
    const result = await slipway('deploy', 'pi1', 'web1', '--json');
    const report = JSON.parse(result.stdout.toString()) as Report;
    await writeFile(join(folder, 'hosts/pi1/break'), '');
    assert.equal(report.hosts[1]?.outcome, 'committed', result.stdout.toString());
    assert.equal(report.hosts[0]?.error?.code, 'deploy_rolled_back', result.stdout.toString());
    assert.equal(result.code, 10);
    assert.equal((await fleet.hello('pi1')).version, '2.0.0');
    const status = await slipway('status', 'pi1');
    assert.match(status.stdout.toString(), /pi1 {2}generation 2[^]*ROLLED_BACK[^]*quarantined: /);
  });

  test('goes back by command', async () => {
    const result = await slipway('rollback', 'web1');
    assert.equal(result.code, 0, result.stderr);
    assert.equal((await fleet.hello('web1')).version, '2.0.0');
    const missing = await slipway('rollback', 'web1', '--to', '77');
    assert.equal(missing.code, 3);
    assert.match(missing.stderr, /no generation 77/);
  });

  test('shows what would change, and takes up a deploy that has ended', async () => {
    await writeFile(join(folder, 'hosts/web1/version'), '4.0.0\n');
    const plan = await slipway('deploy', 'web1', '--dry-activate', '--json');
    const { hosts } = JSON.parse(plan.stdout.toString()) as {
      hosts: { preflight: { units?: { restart: string[] }; closure: { added: number } } }[];
    };
    assert.ok(hosts[0]?.preflight.units !== undefined && hosts[0].preflight.closure.added > 0, plan.stderr);
    assert.equal((await fleet.hello('web1')).version, '2.0.0', 'nothing was activated');
    const difference = await slipway('diff', 'web1');
    assert.match(difference.stdout.toString(), /^paths: \d+ new, \d+ no longer used$/m, difference.stderr);
    assert.equal(
      (await slipway('diff', 'web1', '--from', '2', '--to', '2')).stdout.toString(),
      'Nothing differs.\n',
    );
    const resumed = await slipway('deploy', 'resume', 'web1');
    assert.match(resumed.stdout.toString(), /^ok web1 is on \S+/, resumed.stderr);
  });

  test('--test leaves the boot default alone, --boot leaves the running system alone', async () => {
    const { profile: before } = await world.host('web1').systems();
    const tested = await slipway('deploy', 'web1', '--test');
    assert.equal(tested.code, 0, tested.stdout.toString() + tested.stderr);
    assert.equal((await fleet.hello('web1')).version, '4.0.0');
    assert.equal((await world.host('web1').systems()).profile, before);
    await writeFile(join(folder, 'hosts/web1/version'), '5.0.0\n');
    const staged = await slipway('deploy', 'web1', '--boot');
    assert.equal(staged.code, 0, staged.stdout.toString() + staged.stderr);
    assert.match(staged.stdout.toString(), /Staged for the next boot/);
    assert.equal((await fleet.hello('web1')).version, '4.0.0');
    const { profile, bootDefault } = await world.host('web1').systems();
    assert.ok(profile === bootDefault && profile !== before);
  });

  test('takes back what was done when a later host fails, if that is asked for', async () => {
    const before = (await fleet.hello('web1')).version;
    for (const host of ['pi1', 'web1']) await writeFile(join(folder, `hosts/${host}/version`), '7.0.0\n');
    await writeFile(join(folder, 'hosts/pi1/break'), 'hello-start\nhello\nunit\n');
    const to = ['deploy', 'pi1', 'web1', '--canary', 'web1', '--json'];
    const result = await slipway(...to, '--on-failure', 'rollback');
    await writeFile(join(folder, 'hosts/pi1/break'), '');
    const report = JSON.parse(result.stdout.toString()) as Report;
    const ends = report.hosts.map(({ host, outcome }) => `${host} ${outcome}`);
    assert.deepEqual(ends, ['web1 taken-back', 'pi1 rolled-back'], result.stdout.toString());
    assert.equal(result.code, 10);
    assert.equal((await fleet.hello('web1')).version, before);
  });

  test('leaves out, defers or fails for a host that is off, as it is told', async () => {
    await world.host('pi1').cutNetwork();
    const to = ['deploy', 'pi1', 'web1', '--json'];
    const skipped = await slipway(...to, '--offline', 'skip');
    assert.equal(skipped.code, 0, skipped.stdout.toString() + skipped.stderr);
    const ends = (JSON.parse(skipped.stdout.toString()) as Report).hosts;
    assert.deepEqual(
      ends.map(({ host, outcome }) => `${host} ${outcome}`),
      ['pi1 skipped', 'web1 committed'],
    );
    assert.equal((await slipway(...to, '--offline', 'defer')).code, 75);
    const failed = await slipway(...to);
    assert.equal(failed.code, 14);
    assert.match(failed.stdout.toString(), /"host_unreachable"[^]*ssh root@/);
    await world.host('pi1').restoreNetwork();
  });

  test('names what is wrong with its arguments or the flake', async () => {
    const unknown = await slipway('deploy', 'web2');
    assert.equal(unknown.code, 3);
    assert.match(unknown.stderr, /no host web2\. Did you mean web1\?/);
    const path = await slipway('deploy', 'web1', '--toplevel', '/etc');
    assert.equal(path.code, 2);
    await writeFile(
      join(folder, 'flake.nix'),
      '{ outputs = { self }: { nixosConfigurations = throw "oh no"; }; }',
    );
    const broken = await slipway('deploy', 'web1');
    assert.equal(broken.code, 20);
    assert.match(broken.stderr, /oh no/);
  });
});
