// The pure parts: from what Nix says to uses, from key lines to recipients, and what a file's header admits.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { formatStanza, parseAgeHeader } from '../age/age-header.ts';
import { parseAgeRecipient } from '../age/age-recipient.ts';
import { encryptTo } from '../age/encrypt-to.ts';
import { findHostRecipients } from './host-recipients.ts';
import { parseHostSecrets } from './host-secrets.ts';
import { planSecrets } from './plan-secrets.ts';
import { memoryTree } from './source-tree.ts';
import { putSecret } from './put-secret.ts';
import { findRecipientFault } from './recipient-check.ts';
import { evaluatedSecret, makeKey, makeRequest, seal, SOURCE_ROOT } from './secret-fleet.arbitrary.ts';
import { findPathFault } from './secret-path.ts';
import { assertNoProblems, type SecretProblem } from './secret-problem.ts';
import { findSecretUses, type SecretUseFacts } from './secret-uses.ts';
import { formatSecretsRecord, parseSecretsRecord } from './secrets-record.ts';
import { sha256Hex } from './source-tree.ts';

const files = new Map([
  ['secrets/a.age', Buffer.from('a')],
  ['secrets/b.age', Buffer.from('b')],
]);

function useFacts(secrets: SecretUseFacts['hosts']): SecretUseFacts {
  const hashes = new Map([...files].map(([path, file]) => [path, sha256Hex(file)]));
  return { hosts: secrets, sourceRoot: SOURCE_ROOT, hashes, paths: new Set(files.keys()) };
}

const code = (problem: SecretProblem): string => problem.code;

test('findSecretUses() finds files under the source root', () => {
  const a = evaluatedSecret(files, 'secrets/a.age');
  const { uses, problems } = findSecretUses(useFacts({ web1: { one: a }, web2: { one: a } }));
  assert.deepEqual(problems, []);
  assert.deepEqual(uses, [
    { host: 'web1', secret: 'one', path: 'secrets/a.age', source: 'secrets/a.age' },
    { host: 'web2', secret: 'one', path: 'secrets/a.age', source: 'secrets/a.age' },
  ]);
});

test('findSecretUses() finds a file that was copied alone by its hash', () => {
  const copied = { ...evaluatedSecret(files, 'secrets/b.age'), file: '/nix/store/abc-b.age' };
  assert.deepEqual(findSecretUses(useFacts({ web1: { one: copied } })).uses, [
    { host: 'web1', secret: 'one', path: 'secrets/b.age', source: 'secrets/b.age' },
  ]);
});

test('findSecretUses() gives every problem at once', () => {
  const a = evaluatedSecret(files, 'secrets/a.age');
  const { uses, problems } = findSecretUses(
    useFacts({
      web1: {
        absent: evaluatedSecret(files, 'secrets/absent.age'),
        built: { ...a, built: true, sha256: null, file: '/nix/store/abc-made/x.age' },
        climbing: { ...a, file: `${SOURCE_ROOT}/../other/x.age` },
        differing: { ...a, sha256: 'f'.repeat(64) },
        foreign: { ...a, sha256: 'e'.repeat(64), file: '/nix/store/abc-other-input/x.age' },
        newline: { ...a, file: `${SOURCE_ROOT}/a\nb.age` },
        quoted: { ...a, file: `${SOURCE_ROOT}/it's.age` },
      },
    }),
  );
  assert.deepEqual(uses, []);
  assert.deepEqual(problems.map(code), [
    'file_missing',
    'file_outside_repository',
    'path_hostile',
    'file_differs',
    'file_outside_repository',
    'path_hostile',
    'path_hostile',
  ]);
  for (const problem of problems) {
    assert.equal(problem.host, 'web1');
    assert.ok(problem.next);
    assert.doesNotMatch(problem.message, /\n/);
  }
});

test('findPathFault() passes ordinary paths and refuses what a tool could misread', () => {
  for (const good of ['a.age', 'secrets/web-1/db_password.age', 'schlüssel/ä.age', 'a@b+c=d,e.age']) {
    assert.equal(findPathFault(good), undefined, good);
  }
  const bad = [
    '',
    '/a',
    '../a',
    'a/../b',
    './a',
    'a//b',
    'a/',
    'a b',
    'a\tb',
    'a\nb',
    "a'b",
    'a"b',
    'a$b',
    'a\\b',
  ];
  bad.push('-a', 'a/-b', '.git/x', 'a/.GIT/x', '.slipway/x', 'a\u202Eb', 'x'.repeat(401));
  for (const path of bad) assert.notEqual(findPathFault(path), undefined, JSON.stringify(path));
});

test('findHostRecipients() refuses absent, unusable, shared and dummy keys', async () => {
  const shared = makeKey().publicKey;
  const ecdsa = 'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA==';
  const dummy = 'age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq';
  const { problems, byHost } = findHostRecipients(
    new Map([
      ['clone1', [shared]],
      ['clone2', [`${shared} another comment`]],
      ['dummy', [dummy]],
      ['ecdsa', [ecdsa]],
      ['good', [makeKey().publicKey, await identityToRecipient(await generateX25519Identity())]],
      ['none', []],
    ]),
  );
  assert.deepEqual(
    problems.map((problem) => `${problem.host ?? ''} ${problem.code}`),
    ['dummy host_key_unusable', 'ecdsa host_key_unusable', 'none host_key_missing', 'clone2 host_key_shared'],
  );
  assert.equal(byHost.get('good')?.length, 2);
});

test('findHostRecipients() tells two different keys whose 4-byte tags are equal', () => {
  // found by trying 136944 keys: what age writes for one of them looks like it is for the other
  const one = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFImeJ3jZl/A/b5VWQbLSR69jHNDtCCpJUyMYNesqIjs';
  const other = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILHoyeilaRqbNs53JrRyuIe1NzpeeTYVBgaJ/m6gTkZC';
  const { problems } = findHostRecipients(
    new Map([
      ['web1', [one]],
      ['web2', [other]],
    ]),
  );
  assert.deepEqual(
    problems.map(({ code, host }) => [code, host]),
    [['host_key_tag_collision', 'web2']],
  );
});

test('findHostRecipients() takes the same key twice on one host as one', () => {
  const { publicKey } = makeKey();
  const { problems, byHost } = findHostRecipients(new Map([['web1', [publicKey, `${publicKey} again`]]]));
  assert.deepEqual(problems, []);
  assert.equal(byHost.get('web1')?.length, 1);
});

test('findRecipientFault() names every reader too many and too few', async () => {
  const [one, two, three] = [makeKey(), makeKey(), makeKey()];
  const [a, b, c] = [one, two, three].map((key) => parseAgeRecipient(key.publicKey));
  const native = parseAgeRecipient(await identityToRecipient(await generateX25519Identity()));
  assert.ok(a && b && c);
  const file = await seal('x', one, two);
  assert.equal(findRecipientFault(file, [b, a]), undefined);
  assert.match(findRecipientFault(file, [a]) ?? '', /also be read by ssh-ed25519/);
  assert.match(
    findRecipientFault(file, [a], new Map([[b.tag ?? '', 'the editor me']])) ?? '',
    /by the editor me/,
  );
  assert.match(findRecipientFault(file, [a, b, c]) ?? '', /cannot be read by ssh-ed25519/);
  assert.match(findRecipientFault(file, [a, b, native]) ?? '', /cannot be read by X25519/);
  assert.match(findRecipientFault(file, [a, a, b]) ?? '', /cannot be read/);
  assert.match(
    findRecipientFault(await encryptTo([native, native], Buffer.from('x')), [native]) ?? '',
    /X25519/,
  );
  assert.match(findRecipientFault(Buffer.from('x'), [a]) ?? '', /not a valid age file/);
});

test('findRecipientFault() refuses grease and passphrases', async () => {
  const key = makeKey();
  const file = await seal('x', key);
  const [first] = parseAgeHeader(file).stanzas;
  assert.ok(first);
  const own = formatStanza(first);
  for (const type of ['grease-x', 'scrypt', 'toString']) {
    const extra = own + formatStanza({ type, args: ['abc'], body: Buffer.alloc(7) });
    const greased = Buffer.from(file.toString('latin1').replace(own, extra), 'latin1');
    const fault = findRecipientFault(greased, [parseAgeRecipient(key.publicKey)]);
    assert.match(fault ?? '', new RegExp(`unknown type ${type}`));
  }
});

test('parseSecretsRecord() is the inverse of formatSecretsRecord(), whose bytes do not depend on order', () => {
  const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
  const fingerprint = fc.stringMatching(/^[A-Za-z0-9+/]{43}$/).map((text) => `SHA256:${text}`);
  const host = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);
  const key = fc.record(
    { type: fc.constantFrom('ssh-ed25519', 'X25519'), fingerprint },
    { noNullPrototype: true },
  );
  const hosts = fc.dictionary(host, fc.array(key, { maxLength: 2 }), { noNullPrototype: true });
  const secret = fc.record(
    {
      path: fc.stringMatching(/^[a-z]{1,9}\.age$/),
      sourceSha256: hex,
      releaseSha256: hex,
      plaintextMac: hex,
      hosts: fc.array(host, { maxLength: 3 }),
    },
    { noNullPrototype: true, requiredKeys: ['path', 'sourceSha256', 'releaseSha256', 'hosts'] },
  );
  const secrets = fc.uniqueArray(secret, { maxLength: 5, selector: (one) => one.path });
  fc.assert(
    fc.property(secrets, hosts, (list, keys) => {
      const bytes = formatSecretsRecord({ version: 1, rekeyers: [], hosts: keys, secrets: list });
      const parsed = parseSecretsRecord(bytes);
      assert.ok(parsed);
      assert.deepEqual(formatSecretsRecord(parsed), bytes);
      assert.deepEqual(formatSecretsRecord({ ...parsed, secrets: list.toReversed() }), bytes);
      assert.deepEqual(
        parsed.secrets.map((one) => one.path),
        list.map((one) => one.path).toSorted(),
      );
    }),
  );
  for (const bad of ['', '{}', '[]', '{"version":2}', 'x'])
    assert.equal(parseSecretsRecord(Buffer.from(bad)), undefined);
});

test('parseHostSecrets() takes what the expression gives and names a wrong place', () => {
  const value = { one: { ...evaluatedSecret(files, 'secrets/a.age'), surplus: 1 } };
  assert.equal(parseHostSecrets('web1', value)['one']?.owner, '0');
  assert.deepEqual(parseHostSecrets('web1', {}), {});
  assert.throws(
    () => parseHostSecrets('web1', { one: { ...value.one, file: 3 } }),
    /age\.secrets of web1 .* at one\.file/,
  );
});

test('planSecrets() gathers the problems of files, hosts, keys and re-keyers at once', async () => {
  const rekeyer = makeKey();
  const tree = new Map([
    ['good.age', await seal('x', rekeyer)],
    ['broken.age', Buffer.from('x')],
  ]);
  const request = makeRequest(
    tree,
    { web1: makeKey() },
    { web1: ['broken.age', 'gone.age'], web2: ['good.age'], web3: [] },
  );
  const plan = await planSecrets({ ...request, rekeyers: ['nonsense'] });
  assert.deepEqual(plan.problems.map(code), [
    'file_missing',
    'host_key_missing',
    'source_malformed',
    'rekeyer_unusable',
  ]);
  assert.throws(() => assertNoProblems(plan.problems), /4 problems:\n.*gone\.age/);
});

test('planSecrets() refuses to mix post-quantum hosts with others in one file', async () => {
  const tree = new Map([['shared.age', await seal('x', makeKey())]]);
  const request = makeRequest(tree, { web1: makeKey() }, { web1: ['shared.age'], web2: ['shared.age'] });
  const hybrid = await identityToRecipient(await generateHybridIdentity());
  const web2 = { publicKeys: [hybrid], secrets: request.hosts['web2']?.secrets };
  const plan = await planSecrets({ ...request, hosts: { ...request.hosts, web2 } });
  assert.deepEqual(plan.problems.map(code), ['recipients_mixed']);
});

test('planSecrets() stops at a record that it cannot read: nobody knows then who could read what', async () => {
  const tree = new Map([['a.age', await seal('x', makeKey())]]);
  const previous = new Map([['.slipway/secrets.json', Buffer.from('{"version":2,"secrets":"oops"}')]]);
  const request = makeRequest(tree, { web1: makeKey() }, { web1: ['a.age'] });
  const plan = await planSecrets({ ...request, previous: memoryTree(previous) });
  assert.deepEqual(plan.problems.map(code), ['record_wrong']);
});

test('putSecret() writes for editors and re-keyers once each, and refuses what no host could use', async () => {
  const [editor, rekeyer] = [makeKey('e'), makeKey('r')];
  const request = {
    path: 'a.age',
    value: Buffer.from('v'),
    editors: [editor.publicKey, rekeyer.publicKey],
    rekeyers: [rekeyer.publicKey],
  };
  const file = await putSecret(request);
  const expected = [editor, rekeyer].map((key) => parseAgeRecipient(key.publicKey));
  assert.equal(findRecipientFault(file, expected), undefined);
  assert.equal(parseAgeHeader(await putSecret({ ...request, armor: true })).armored, true);
  await assert.rejects(putSecret({ ...request, path: '../a.age' }), /refused/);
  await assert.rejects(putSecret({ ...request, value: Buffer.alloc(0) }), /empty/);
  await assert.rejects(putSecret({ ...request, editors: [], rekeyers: [] }), /nobody/);
  await assert.rejects(putSecret({ ...request, editors: ['age1yubikey1abc'] }), /age1yubikey1abc/);
});
