// A fleet that uses agenix-rekey with local storage: its module names each host's file by the host's key and the editors'
// ciphertext, and does not evaluate without it. Slipway writes the files where the module looks.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openWorld, type World } from './lab/world.ts';
import { openScene } from './pipeline-scene.ts';
import { SecretScene } from './secrets-scene.ts';

let world: World;
before(async () => {
  world = await openWorld();
});
after(async () => {
  await world[Symbol.asyncDispose]();
});

/** As agenix-rekey's module: `file` throws until the host's copy is in the flake. */
const FLAKE = `{
  outputs = { self }:
    let
      fleet = builtins.fromJSON (builtins.readFile ./fleet.json);
      hash = builtins.hashString "sha256";
      makeHost = name: host:
        let
          hostPubkey = fleet.slipway.hosts.\${name}.publicKey;
          localStorageDir = ./. + "/rekeyed/\${name}";
          makeSecret = secret: file:
            let
              rekeyFile = ./. + "/\${file}";
              ident = builtins.substring 0 32 (hash (hash hostPubkey + builtins.hashFile "sha256" rekeyFile));
              path = builtins.path { path = localStorageDir; name = "rekeyed"; } + "/\${ident}-\${secret}.age";
            in {
              inherit rekeyFile;
              name = secret;
              intermediary = secret == "intermediate";
              file = if builtins.pathExists path then path else throw "please run agenix rekey -a";
            };
          secrets = builtins.mapAttrs makeSecret (host.secrets or { });
        in {
          config.age = { inherit secrets; rekey = { inherit hostPubkey localStorageDir; storageMode = fleet.storage; }; };
          config.system.build.toplevel = derivation {
            name = "nixos-system-\${name}-test";
            system = "x86_64-linux";
            builder = "/bin/sh";
            args = [ "-c" "/bin/mkdir $out; echo x86_64-linux > $out/system; echo $secrets > $out/secrets" ];
            secrets = map (s: s.file) (builtins.filter (s: !s.intermediary) (builtins.attrValues secrets));
          };
        };
    in {
      nixosConfigurations = builtins.mapAttrs makeHost fleet.hosts;
      inherit (fleet) slipway;
    };
}
`;

test('ci run re-keys agenix-rekey’s rekeyFile to where its module looks, and keeps what it hashes', async () => {
  const fleet = new SecretScene(world, await openScene(world));
  for (const name of ['a', 'b', 'c', 'editor', 'rekey']) await fleet.keygen(name);
  await fleet.seal('secrets/db.age', 'the database password');
  fleet.use({ a: ['db', 'intermediate'], b: ['db'] });
  await fleet.seal('secrets/intermediate.age', 'only for making others');
  await fleet.scene.write('flake.nix', FLAKE);
  Object.assign(fleet.scene.fleet, { storage: 'local' });
  await fleet.scene.push('A fleet with agenix-rekey');
  const first = await fleet.release();
  assert.equal(first.finished.outcome, 'done', JSON.stringify(first.problems));
  const listed = (await fleet.scene.forge('ls-tree', '-r', '--name-only', 'release')).split('\n');
  const copies = listed.filter((path) => path.startsWith('rekeyed/'));
  assert.deepEqual(
    copies.map((path) => path.replace(/[0-9a-f]{32}/, 'ID')),
    ['rekeyed/a/ID-db.age', 'rekeyed/b/ID-db.age'],
  );
  assert.ok(listed.includes('secrets/db.age') && !listed.includes('secrets/intermediate.age'));
  assert.equal(await fleet.open('release', copies[0] ?? '', 'a'), 'the database password');
  await assert.rejects(fleet.open('release', copies[0] ?? '', 'b'));
  await assert.rejects(fleet.open('release', 'secrets/db.age', 'a'));

  await fleet.scene.push('Nothing new');
  assert.equal((await fleet.release()).finished.outcome, 'nothing-to-do');
  await fleet.seal('secrets/db.age', 'a new password');
  await fleet.scene.push('A new value needs nobody’s approval, although the files have other names now');
  const changed = await fleet.release();
  assert.equal(changed.finished.outcome, 'done', JSON.stringify(changed.problems));
  const after = (await fleet.scene.forge('ls-tree', '-r', '--name-only', 'release')).split('\n');
  assert.equal(after.filter((path) => path.startsWith('rekeyed/')).length, 2, 'the old copies are gone');

  fleet.use({ a: ['db'], b: ['db'], c: ['db'] });
  await fleet.scene.push('c wants it too');
  const refused = await fleet.release();
  assert.match(refused.problems[0]?.message ?? '', /\+ c may now read secrets\/db\.age/);
});

test('ci run says what to do about agenix-rekey’s storage in derivations', async () => {
  const fleet = new SecretScene(world, await openScene(world));
  for (const name of ['a', 'b', 'c', 'editor', 'rekey']) await fleet.keygen(name);
  await fleet.seal('secrets/db.age', 'the database password');
  fleet.use({ a: ['db'] });
  await fleet.scene.write('flake.nix', FLAKE);
  Object.assign(fleet.scene.fleet, { storage: 'derivation' });
  await fleet.scene.push('A fleet with agenix-rekey');
  const run = await fleet.release();
  assert.match(run.problems[0]?.next ?? '', /storageMode = "local"/);
  assert.equal(await fleet.scene.tip('release'), undefined, join(fleet.folder, 'nothing is published'));
});
