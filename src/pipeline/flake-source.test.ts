import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBuildCommand, formatFlakeUrl, formatNixString } from './flake-source.ts';

const COMMIT = 'c'.repeat(40);

test('formatFlakeUrl() pins the commit and names the ref in full', () => {
  const url = formatFlakeUrl({
    mirror: '/var/a b/mirror.git',
    ref: 'refs/heads/slipway-candidate',
    commit: COMMIT,
  });
  assert.equal(url, `git+file:///var/a%20b/mirror.git?ref=refs%2Fheads%2Fslipway-candidate&rev=${COMMIT}`);
});

test('formatNixString() escapes what Nix would interpret', () => {
  assert.equal(formatNixString('a"b\\c${d}\n'), '"a\\"b\\\\c\\${d}\\n"');
});

test('formatBuildCommand() spells paths and scp-like addresses as Nix reads them', () => {
  const command = (repository: string): string => formatBuildCommand(repository, 'main', COMMIT, 'web1');
  const rest = `?ref=main&rev=${COMMIT}#nixosConfigurations.web1.config.system.build.toplevel'`;
  assert.equal(command('/srv/fleet'), `nix build -L 'git+file:///srv/fleet${rest}`);
  assert.equal(
    command('git@forge.lab:me/fleet.git'),
    `nix build -L 'git+ssh://git@forge.lab/me/fleet.git${rest}`,
  );
  assert.equal(
    command('https://forge.lab/fleet.git'),
    `nix build -L 'git+https://forge.lab/fleet.git${rest}`,
  );
});
