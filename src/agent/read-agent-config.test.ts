import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { parseAgentConfig } from './read-agent-config.ts';

const KEY = `release-1:${'A'.repeat(43)}=`;
const SMALL = `host = "pi1"\nreleaseKeys = ["${KEY}"]\n[[remotes]]\nurl = "https://forge.example.org/fleet.git"\n`;

test('parseAgentConfig() fills every default', () => {
  const config = parseAgentConfig(SMALL, 'agent.toml');
  assert.equal(config.stateDir, '/var/lib/slipway/agent');
  assert.equal(config.remotes[0]?.branch, 'release');
  assert.equal(config.remotes[0]?.poll, 60);
  assert.deepEqual(config.probes, { remote: true, cache: true, controller: true, whenBlind: 'hold' });
  assert.equal(config.timeouts.probe, 120);
});

const BAD: readonly (readonly [string, string, RegExp])[] = [
  ['text that is not TOML', 'host = ', /agent\.toml is not TOML/],
  ['a missing host', SMALL.replace('host = "pi1"', ''), /host: /],
  ['an unknown setting', `pool = 3\n${SMALL}`, /pool/],
  ['a token that is a value', `${SMALL}token = "slw_abc"\n`, /remotes\[0\]\.token: not a secret reference/],
  ['a key that is no key', SMALL.replace(KEY, 'nonsense'), /releaseKeys\[0\]: not a public key/],
  ['no release key', SMALL.replace(`"${KEY}"`, ''), /releaseKeys: at least one release key/],
  [
    'a password in a remote’s URL',
    SMALL.replace('https://', 'https://u:p@'),
    /remotes\[0\]\.url: not a git URL without a password/,
  ],
  ['a poll of nothing', `${SMALL}poll = 0\n`, /remotes\[0\]\.poll/],
  [
    'a controller with a password in its URL',
    `${SMALL}[controller]\nurl = "http://u:p@slipway"\ntoken = "env:T"\n`,
    /controller\.url/,
  ],
];

for (const [name, text, message] of BAD) {
  test(`parseAgentConfig() refuses ${name}`, () => {
    assert.throws(
      () => parseAgentConfig(text, 'agent.toml'),
      (error) => {
        assert.ok(isCode(error, 'invalid'));
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /slw_abc|u:p/);
        return true;
      },
    );
  });
}
