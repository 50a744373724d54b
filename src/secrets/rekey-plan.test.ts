// Properties of the plan over random fleets: exact readers, and nothing to do after it was carried out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAgeRecipient } from '../age/age-recipient.ts';
import { planRekey, type RekeyFacts } from './rekey-plan.ts';
import { makeKey, seal } from './secret-fleet.arbitrary.ts';
import { EMPTY_RECORD, type SecretsRecord } from './secrets-record.ts';
import { sha256Hex } from './source-tree.ts';

const HOSTS = ['a', 'b', 'c'];
const PATHS = ['1.age', '2.age', '3.age', '4.age'];
const keys = new Map(HOSTS.map((host) => [host, makeKey(host)]));
const recipients = new Map([...keys].map(([host, key]) => [host, [parseAgeRecipient(key.publicKey)]]));

const usesArbitrary = fc.uniqueArray(
  fc
    .record({ host: fc.constantFrom(...HOSTS), path: fc.constantFrom(...PATHS) })
    .map(({ host, path }) => ({ host, secret: 's', path, source: path })),
  { selector: (use) => `${use.host} ${use.path}` },
);

function factsFor(uses: RekeyFacts['uses']): RekeyFacts {
  const sources = new Map(
    PATHS.map((path) => [path, { sha256: sha256Hex(Buffer.from(path)), armored: false }]),
  );
  return {
    uses,
    recipients,
    sources,
    sourcePaths: [...PATHS, 'README.md'],
    previousRecord: EMPTY_RECORD,
    previousFiles: new Map(),
    staleHosts: new Set(),
    rekeyers: [],
  };
}

const readersOf = (uses: RekeyFacts['uses'], path: string): string[] =>
  uses
    .filter((use) => use.path === path)
    .map((use) => use.host)
    .toSorted();

/** The release that carrying out the plan of these uses gives. */
async function released(
  uses: RekeyFacts['uses'],
): Promise<Pick<RekeyFacts, 'previousRecord' | 'previousFiles'>> {
  const previousFiles = new Map<string, Buffer>();
  const secrets: SecretsRecord['secrets'] = [];
  for (const item of planRekey(factsFor(uses)).items) {
    const file = await seal('x', ...item.recipients.flatMap(({ host }) => keys.get(host) ?? []));
    previousFiles.set(item.path, file);
    secrets.push({
      path: item.path,
      sourceSha256: item.sourceSha256,
      releaseSha256: sha256Hex(file),
      hosts: item.recipients.map((one) => one.host),
    });
  }
  const hosts = Object.fromEntries(
    [...recipients].map(([host, list]) => [
      host,
      list.map(({ type, fingerprint }) => ({ type, fingerprint })),
    ]),
  );
  return { previousFiles, previousRecord: { version: 1, rekeyers: [], hosts, secrets } };
}

test('planRekey() encrypts each used file for exactly the hosts that use it, and leaves the others out', () => {
  fc.assert(
    fc.property(usesArbitrary, (uses) => {
      const plan = planRekey(factsFor(uses));
      const used = [...new Set(uses.map((use) => use.path))].toSorted();
      assert.deepEqual(
        plan.items.map((item) => item.path),
        used,
      );
      for (const item of plan.items) {
        assert.deepEqual(
          item.recipients.map((one) => one.host),
          readersOf(uses, item.path),
        );
        assert.equal(item.action, 'rekey');
      }
      assert.deepEqual(
        plan.remove,
        PATHS.filter((path) => !used.includes(path)),
      );
    }),
  );
});

test('planRekey() re-keys after a change of uses only the files whose readers changed', async () => {
  await fc.assert(
    fc.asyncProperty(usesArbitrary, usesArbitrary, async (before, after) => {
      const plan = planRekey({ ...factsFor(after), ...(await released(before)) });
      for (const item of plan.items) {
        const [old, now] = [readersOf(before, item.path), readersOf(after, item.path)];
        assert.equal(item.action, old.join() === now.join() ? 'reuse' : 'rekey');
        assert.deepEqual(
          item.granted,
          now.filter((host) => !old.includes(host)),
        );
        assert.deepEqual(
          item.revoked.toSorted(),
          old.filter((host) => !now.includes(host)),
        );
      }
    }),
    { numRuns: 30 },
  );
});

test('planRekey() keeps what a stale host could read', async () => {
  const uses = [
    { host: 'a', secret: 's', path: '1.age', source: '1.age' },
    { host: 'b', secret: 's', path: '1.age', source: '1.age' },
  ];
  const facts = { ...factsFor(uses.slice(1)), ...(await released(uses)), staleHosts: new Set(['a']) };
  assert.deepEqual(
    planRekey(facts).items.map((item) => item.action),
    ['reuse'],
  );
  const gone = { ...facts, sources: new Map(), sourcePaths: [] };
  assert.deepEqual(
    planRekey(gone).items.map((item) => item.action),
    ['keep'],
  );
  const changed = {
    ...gone,
    recipients: new Map([...recipients, ['b', [parseAgeRecipient(makeKey().publicKey)]]]),
  };
  assert.deepEqual(
    planRekey(changed).problems.map((problem) => problem.code),
    ['previous_missing'],
  );
});

test('planRekey() asks for the record’s key anew when the configured re-keyers changed', () => {
  const rekeyers = [parseAgeRecipient(makeKey().publicKey)];
  const uses = [{ host: 'a', secret: 's', path: '1.age', source: '1.age' }];
  assert.equal(planRekey({ ...factsFor(uses), rekeyers }).rewrapMacKey, true);
  const previousRecord = { ...EMPTY_RECORD, rekeyers: rekeyers.map((one) => one.fingerprint) };
  assert.equal(planRekey({ ...factsFor(uses), rekeyers, previousRecord }).rewrapMacKey, false);
  assert.equal(planRekey({ ...factsFor([]), rekeyers }).rewrapMacKey, false);
});

test('planRekey() keeps an editors’ file that agenix-rekey reads, beside the hosts’ copies, and lets nothing clash', () => {
  const copy = { host: 'a', secret: 's', path: 'rekeyed/a/x-s.age', source: '1.age' };
  const good = planRekey(factsFor([copy]));
  assert.deepEqual(good.problems, []);
  assert.deepEqual(
    good.items.map(({ path, source }) => [path, source]),
    [['rekeyed/a/x-s.age', '1.age']],
  );
  assert.ok(!good.remove.includes('1.age'));
  assert.ok(good.remove.includes('2.age'), 'what nobody uses still goes');
  const clashes = [
    planRekey(factsFor([copy, { ...copy, host: 'b', source: '2.age' }])),
    planRekey(factsFor([copy, { host: 'b', secret: 's', path: '1.age', source: '1.age' }])),
  ];
  for (const { problems } of clashes) assert.equal(problems[0]?.code, 'rekey_storage');
});
