import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  verifyText,
} from './signature.ts';

// A key pair that `nix key generate-secret` made; thrown away.
const SECRET =
  'vector-1:2fMSizRM8WxiZozzwdLPAMB6IDyT34Hu++soIATwaKC4Xlt83FV5+mvflermrNxH0zMfZtWLnX2p6Bfys6k+BA==';
const PUBLIC = 'vector-1:uF5bfNxVefpr35Xq5qzcR9MzH2bVi519qegX8rOpPgQ=';

test("publicKeyOf() gives what nix gives for nix's secret key", () => {
  assert.equal(publicKeyOf(parseSecretKey(`${SECRET}\n`)), PUBLIC);
});

test('verifyText() accepts what signText() made, by the named key only', () => {
  const secret = parseSecretKey(generateSecretKey('ci-1'));
  const signature = signText(secret, 'message');
  const key = parsePublicKey(publicKeyOf(secret));
  assert.ok(verifyText([parsePublicKey(PUBLIC), key], 'message', signature));
  assert.ok(!verifyText([key], 'messagE', signature));
  assert.ok(!verifyText([{ ...key, name: 'ci-2' }], 'message', signature));
  assert.ok(!verifyText([], 'message', signature));
});

test('verifyText() takes a malformed signature for an invalid one', () => {
  const key = parsePublicKey(PUBLIC);
  for (const bad of ['', 'vector-1:', 'vector-1:AAAA', ':AAAA', `vector-1:${'A'.repeat(86)}`]) {
    assert.equal(verifyText([key], 'message', bad), false);
  }
});

test('parseSecretKey() refuses halves that do not belong together', () => {
  const bytes = Buffer.from(SECRET.split(':')[1] ?? '', 'base64');
  bytes[63] = (bytes[63] ?? 0) ^ 1;
  assert.throws(() => parseSecretKey(`vector-1:${bytes.toString('base64')}`), { code: 'invalid' });
});

for (const bad of ['', 'name', 'name:', ':AAAA', 'na me:AAAA', `name:${'A'.repeat(43)}=`]) {
  test(`parseSecretKey() refuses "${bad.slice(0, 12)}"`, () => {
    assert.throws(() => parseSecretKey(bad), { code: 'invalid' });
  });
}
