// The last gate stands on the host: before anything changes it tries to decrypt every secret of the new system, as agenix'
// unchanged module will. On a real host with the real age: a host that a bad release reaches keeps what worked.
import assert from 'node:assert/strict';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ERROR_CODES } from '../../src/util/errors.ts';
import { type Fleet, openFleet } from './lab/fleet.ts';
import { openWorld, type World } from './lab/world.ts';

let world: World;
let fleet: Fleet;
let folders = 0;
before(async () => {
  world = await openWorld({ hosts: ['web1'] });
  fleet = await openFleet(world);
  await fleet.install();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

/** A toplevel of web1 whose two secrets are encrypted to these keys, beside the release flow. */
async function build(version: string, hello: string, mail: string): Promise<string> {
  const folder = join(world.folder, `sealed-${folders++}`);
  await cp(fleet.checkout, folder, { recursive: true, filter: (path) => !path.endsWith('/.git') });
  await writeFile(join(folder, 'hosts/web1/version'), `${version}\n`);
  await fleet.putSecret('web1-hello', `${version} ${fleet.canary}\n`, [hello], folder);
  await fleet.putSecret('mail', `mail ${fleet.canary}\n`, [mail], folder);
  const flake = `path:${folder}#nixosConfigurations.web1.config.system.build.toplevel`;
  const built = await world.runText(['nix', 'build', '--no-link', '--json', flake]);
  return (JSON.parse(built) as { outputs: { out: string } }[])[0]?.outputs.out ?? '';
}

async function deploy(toplevel: string): Promise<{ code: number; said: string }> {
  const argv = ['deploy', 'web1', '--toplevel', toplevel, '--json'];
  const result = await world.slipway(argv, { cwd: fleet.checkout });
  return { code: result.code, said: result.stdout.toString('utf8') + result.stderr };
}

async function publicKey(name: string): Promise<string> {
  const file = join(world.folder, name);
  await world.runText(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', file]);
  return (await world.runText(['cat', `${file}.pub`])).trim();
}

test('a host refuses a system with a secret that it cannot decrypt, before anything changes', async () => {
  const web1 = world.host('web1');
  const before = await web1.systems();
  const stranger = await publicKey('stranger');
  const secret = 'cat /run/agenix/hello; stat -f -c %T /run/agenix/hello; stat -c %a /run/agenix/hello';
  const worked = await web1.shell(secret);
  assert.match(worked, /ramfs\n400$/);
  const refused = await deploy(await build('2.0.0', stranger, web1.publicKey));
  assert.equal(refused.code, ERROR_CODES.deploy_refused.exit, refused.said);
  assert.match(refused.said, /This host cannot decrypt \/nix\/store\/[a-z0-9]+-web1-hello\.age/);
  assert.doesNotMatch(refused.said, /cannot decrypt \S+mail\.age/);
  assert.deepEqual(await web1.systems(), before);
  assert.equal(await web1.shell(secret), worked, 'the secret that worked is still there');
  assert.equal((await fleet.hello('web1')).version, '0.0.0');
});

test('a host takes a system whose secrets it can all decrypt, and has them in RAM', async () => {
  const { publicKey } = world.host('web1');
  const deployed = await deploy(await build('2.1.0', publicKey, publicKey));
  assert.equal(deployed.code, 0, deployed.said);
  assert.equal(await world.host('web1').shell('cat /run/agenix/hello'), `2.1.0 ${fleet.canary}`);
  assert.equal((await fleet.hello('web1')).version, '2.1.0');
});

/** What agenix' module (0.15) renders for a secret, line for line as far as it matters. */
function agenixText(age: string, identities: readonly string[], files: readonly string[]): string {
  const install = files.map(
    (file) => `_truePath="/run/agenix.d/$_agenix_generation/x"
echo "decrypting '${file}' to '$_truePath'..."
TMP_FILE="$_truePath.tmp"

IDENTITIES=()
for identity in ${identities.join(' ')}; do
  test -r "$identity" || continue
  IDENTITIES+=(-i)
  IDENTITIES+=("$identity")
done
(
  umask u=r,g=,o=
  test -f "${file}" || echo '[agenix] WARNING: encrypted file ${file} does not exist!'
  LANG=en_US.UTF-8 ${age} --decrypt "\${IDENTITIES[@]}" -o "$TMP_FILE" "${file}"
)
`,
  );
  return `#!/bin/sh\nexit 1 # never run by the check\necho '[agenix] decrypting secrets...'\n${install.join('')}`;
}

/** Runs the check alone on a toplevel made of these files. */
async function check(files: Readonly<Record<string, string>>): Promise<{ code: number; said: string }> {
  const toplevel = join(world.folder, `toplevel-${folders++}`);
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(toplevel, path, '..'), { recursive: true });
    await writeFile(join(toplevel, path), text);
  }
  const script = `log() { echo "log $*"; }; . ${world.repository}/host/lib/secrets.sh; TOPLEVEL=${toplevel}; check_secrets`;
  const result = await world.run(['sh', '-uc', script]);
  return { code: result.code, said: result.stdout.toString('utf8') + result.stderr };
}

test('check_secrets finds agenix’ secrets in the activation script, and in its unit with sysusers', async () => {
  const key = await publicKey('check-key');
  const identity = join(world.folder, 'check-key');
  const store = async (name: string, reader: string): Promise<string> => {
    const file = join(world.folder, name);
    await world.runText(['age', '-r', reader, '-o', file], { input: 'x' });
    return (await world.runText(['nix', 'store', 'add-file', file])).trim();
  };
  const good = await store('good.age', key);
  const bad = await store('bad.age', await publicKey('another-key'));
  const missing = '/nix/store/00000000000000000000000000000000-gone.age';
  const paths = ['/nonexistent/key', identity];
  assert.deepEqual(await check({ activate: agenixText('/usr/bin/age', paths, [good]) }), {
    code: 0,
    said: '',
  });
  const mixed = await check({ activate: agenixText('/usr/bin/age', paths, [bad, good, missing]) });
  assert.equal(mixed.code, 1);
  assert.deepEqual(mixed.said.trim().split('\n'), [
    `This host cannot decrypt ${bad}.`,
    `This host cannot decrypt ${missing}.`,
  ]);
  const keyless = await check({ activate: agenixText('/usr/bin/age', ['/nonexistent/key'], [good]) });
  assert.match(keyless.said, /none of the keys that .*good\.age needs: \/nonexistent\/key/);

  const script = join(world.folder, 'install-secrets');
  await writeFile(script, agenixText('/usr/bin/age', paths, [bad]));
  const unit = { 'etc/systemd/system/agenix-install-secrets.service': `[Service]\nExecStart=${script}\n` };
  assert.equal(
    (await check({ activate: '#!/bin/sh\n', ...unit })).said,
    `This host cannot decrypt ${bad}.\n`,
  );
  const strange = await check({ activate: "echo '[agenix] decrypting secrets...'\nmagic\n" });
  assert.deepEqual([strange.code, /not known here/.test(strange.said)], [0, true]);
});
