import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isCode } from '../util/errors.ts';
import { formatDebugLink, parseDebugLink, parseDebugLinkName } from './debug-link.ts';
import {
  formatRealisation,
  parseRealisation,
  parseRealisationName,
  realisationFingerprint,
  type Realisation,
} from './realisation.ts';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  signText,
  verifyText,
} from './signature.ts';

const PATH = 'g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q';
const ID = `sha256:${'ab'.repeat(32)}!out`;
const OLD = `realisations/${ID}.doi`;
const NEW = `build-trace-v2/${PATH}-bar.drv/foo.doi`;
const SECRET = parseSecretKey(generateSecretKey('k-1'));

function parse(name: string, value: unknown): Realisation {
  const key = parseRealisationName(name);
  assert.ok(key);
  return parseRealisation(typeof value === 'string' ? value : JSON.stringify(value), key);
}

test('a signature that Nix has made over a build trace holds', () => {
  // libstore-tests/data/realisation/simple-sig.json, and the public half of the key that its test has.
  const key = parsePublicKey('test-key:rAWTx0noOtf7tqHO5iDnsH7gGNVdQYl99oaJk2gydic=');
  const sig = 'WsjxK4/EI74COtzMDI+VCjQU9O4FydK0+YeY1CE5hUevogd+T+CPvNXza7oog3GTMS+ZlBwsC2S3ppwusKnJDg==';
  const trace = parse(NEW, { outPath: `${PATH}-foo`, signatures: [{ keyName: 'test-key', sig }] });
  assert.ok(verifyText([key], realisationFingerprint(trace), trace.signatures[0] ?? ''));
  const other = parse(NEW, { outPath: `${PATH}-food`, signatures: trace.signatures });
  assert.ok(!verifyText([key], realisationFingerprint(other), other.signatures[0] ?? ''));
});

test('both forms read back as they were written', () => {
  const signature = signText(SECRET, 'x');
  const [keyName, sig] = signature.split(':');
  const old = {
    dependentRealisations: { [ID]: `${PATH}-dep` },
    id: ID,
    outPath: `${PATH}-foo`,
    signatures: [signature],
  };
  assert.deepEqual(JSON.parse(formatRealisation(parse(OLD, old))), old);
  const trace = { outPath: `${PATH}-foo`, signatures: [{ keyName, sig }] };
  assert.equal(formatRealisation(parse(NEW, trace)), JSON.stringify(trace));
  assert.ok(publicKeyOf(SECRET).startsWith('k-1:'));
});

test('dependencies are signed in the order of their ids, whatever the order of the file', () => {
  const [low, high] = [`sha256:${'0'.repeat(64)}!out`, `sha256:${'f'.repeat(64)}!dev`];
  const path = `${PATH}-a`;
  const realisation = parse(OLD, {
    id: ID,
    outPath: path,
    dependentRealisations: { [high]: path, [low]: path },
  });
  assert.equal(
    realisationFingerprint(realisation),
    `{"dependentRealisations":{"${low}":"${path}","${high}":"${path}"},"id":"${ID}","outPath":"${path}"}`,
  );
});

test('what is no realisation, or one of something else, is refused', () => {
  const good = { id: ID, outPath: `${PATH}-foo`, signatures: [] };
  const bad: unknown[] = [
    '',
    '[]',
    'null',
    '{"id":',
    '['.repeat(100_000),
    { ...good, id: ID.replace('ab', 'cd') },
    { ...good, outPath: `/nix/store/${PATH}-foo` },
    { ...good, outPath: '../../etc' },
    { ...good, outPath: [`${PATH}-foo`] },
    { ...good, signatures: 'k:AAAA' },
    { ...good, signatures: ['k'] },
    { ...good, signatures: [{ keyName: 1, sig: 'x' }] },
    { ...good, signatures: [null] },
    { ...good, signatures: Array.from({ length: 65 }, () => signText(SECRET, '')) },
    { ...good, dependentRealisations: { __proto__x: `${PATH}-a` } },
    { ...good, dependentRealisations: [1] },
  ];
  for (const value of bad)
    assert.throws(
      () => parse(OLD, value),
      (error) => isCode(error, 'invalid'),
      String(value),
    );
  for (const name of [
    'realisations/../x.doi',
    'build-trace-v2/../foo.doi',
    `build-trace-v2/${PATH}-bar/foo.doi`,
    `build-trace-v2/${PATH}-bar.drv/a/b.doi`,
    `${NEW}/`,
  ])
    assert.equal(parseRealisationName(name), undefined, name);
});

test('links to debug information stay in the cache and name what was asked for', () => {
  const id = '0123456789abcdef'.repeat(3).slice(0, 40);
  const member = `lib/debug/.build-id/${id.slice(0, 2)}/${id.slice(2)}.debug`;
  const narFile = `${'0'.repeat(52)}.nar.xz`;
  const link = { archive: `../nar/${narFile}`, member };
  assert.equal(formatDebugLink(parseDebugLink(JSON.stringify(link), id)), JSON.stringify(link));
  for (const bad of [
    { ...link, archive: `../../nar/${narFile}` },
    { ...link, archive: `https://elsewhere/nar/${narFile}` },
    { ...link, archive: `../nar/../${narFile}` },
    { ...link, archive: 7 },
    { ...link, member: '../../etc/shadow' },
    { ...link, member: `/${member}` },
    { ...link, member: member.replace('01', '02') },
    [link],
    null,
  ])
    assert.throws(
      () => parseDebugLink(JSON.stringify(bad), id),
      (error) => isCode(error, 'invalid'),
    );
  assert.equal(parseDebugLinkName(`debuginfo/${id}.debug`), id);
  assert.equal(parseDebugLinkName(`debuginfo/../${id}`), undefined);
});
