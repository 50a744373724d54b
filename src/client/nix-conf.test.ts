import assert from 'node:assert/strict';
import { test } from 'node:test';
import { editNixConf, findSetting } from './nix-conf.ts';

const USE = {
  substituter: 'https://c.example/main',
  publicKeys: ['main-1:AAAA'],
  netrcFile: '/home/me/.config/nix/netrc',
};

test('editNixConf() adds to an empty file, and the same edit again changes nothing', () => {
  const once = editNixConf('', USE);
  assert.equal(
    once,
    'extra-substituters = https://c.example/main\nextra-trusted-public-keys = main-1:AAAA\nnetrc-file = /home/me/.config/nix/netrc\n',
  );
  assert.equal(editNixConf(once, USE), once);
});

test('editNixConf() puts several caches of a host side by side and keeps what is there', () => {
  const before =
    '# mine\nsubstituters = https://cache.nixos.org\n\nextra-substituters=https://x # note\nmax-jobs = 4';
  const after = editNixConf(editNixConf(before, USE), {
    ...USE,
    substituter: 'https://c.example/other',
    publicKeys: ['other-1:BBBB'],
  });
  assert.equal(
    after,
    '# mine\nsubstituters = https://cache.nixos.org\n\nextra-substituters = https://x https://c.example/main https://c.example/other # note\nmax-jobs = 4\nextra-trusted-public-keys = main-1:AAAA other-1:BBBB\nnetrc-file = /home/me/.config/nix/netrc\n',
  );
});

test('editNixConf() leaves a cache alone that another line names, and replaces a key that has changed', () => {
  const before =
    'substituters = https://c.example/main\ntrusted-public-keys = main-1:OLD cache.nixos.org-1:C\nnetrc-file = /etc/nix/netrc\n';
  assert.equal(
    editNixConf(before, USE),
    'substituters = https://c.example/main\ntrusted-public-keys = cache.nixos.org-1:C\nnetrc-file = /etc/nix/netrc\nextra-trusted-public-keys = main-1:AAAA\n',
  );
});

test('findSetting() takes the last line and no comment', () => {
  assert.equal(findSetting('netrc-file = /a\n#netrc-file = /c\nnetrc-file = /b # x\n', 'netrc-file'), '/b');
  assert.equal(findSetting('', 'netrc-file'), undefined);
});
