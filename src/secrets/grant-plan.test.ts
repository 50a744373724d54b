import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { armor } from 'age-encryption';
import { parseAgeRecipient } from '../age/age-recipient.ts';
import { keyFingerprint } from './key-fingerprint.ts';
import { matchesPath } from './path-pattern.ts';
import { planSecrets, type SecretsPlan } from './plan-secrets.ts';
import { makeKey, makeRequest, seal, type ThrowAwayKey } from './secret-fleet.arbitrary.ts';
import { formatSecretsRecord, type SecretsRecord } from './secrets-record.ts';
import type { HistoricFile, SecretsRequest } from './secrets-request.ts';
import { memoryTree, sha256Hex } from './source-tree.ts';

const editor = makeKey('editor');
const keys = { web1: makeKey('web1'), web2: makeKey('web2'), db1: makeKey('db1') };
const DB = await seal('the database password', editor);
const HELLO = await seal('hello', editor);
const FILES = new Map([
  ['secrets/db.age', DB],
  ['secrets/hello.age', HELLO],
]);
const USES = { web1: ['secrets/hello.age'], web2: [], db1: ['secrets/db.age'] };

interface Change {
  readonly files?: ReadonlyMap<string, Buffer>;
  readonly keys?: Readonly<Record<string, ThrowAwayKey>>;
  readonly uses?: Readonly<Record<string, readonly string[]>>;
  readonly tags?: Readonly<Record<string, readonly string[]>>;
  readonly editors?: readonly string[];
  /** Text of the policy: in the last release, and in the commit. */
  readonly basePolicy?: string;
  readonly ownPolicy?: string;
  readonly baseTags?: Record<string, string[]>;
  readonly history?: readonly HistoricFile[];
  readonly released?: boolean;
}

/** The record of a release in which web1 reads hello, and db1 reads db. */
function baseRecord(tags: Record<string, string[]> | undefined): SecretsRecord {
  return {
    version: 1,
    rekeyers: [],
    editors: [keyFingerprint(editor.publicKey)],
    ...(tags && { tags }),
    hosts: { web1: [recordedKey('web1')], db1: [recordedKey('db1')] },
    secrets: [recorded('secrets/db.age', DB, 'db1'), recorded('secrets/hello.age', HELLO, 'web1')],
  };
}

function recordedKey(host: 'web1' | 'db1'): { type: string; fingerprint: string } {
  const { type, fingerprint } = parseAgeRecipient(keys[host].publicKey);
  return { type, fingerprint };
}

function recorded(path: string, file: Buffer, host: string): SecretsRecord['secrets'][number] {
  return { path, sourceSha256: sha256Hex(file), releaseSha256: sha256Hex(file), hosts: [host] };
}

function policyFile(text: string | undefined): [string, Buffer][] {
  return text === undefined ? [] : [['.slipway/policy.toml', Buffer.from(text)]];
}

async function plan(change: Change = {}): Promise<SecretsPlan> {
  const record = formatSecretsRecord(baseRecord(change.baseTags));
  const previous = memoryTree(new Map([['.slipway/secrets.json', record], ...policyFile(change.basePolicy)]));
  const own = change.ownPolicy ?? change.basePolicy;
  const files = new Map([...(change.files ?? FILES), ...policyFile(own)]);
  const made = makeRequest(files, change.keys ?? keys, change.uses ?? USES);
  const hosts = Object.fromEntries(
    Object.entries(made.hosts).map(([host, one]) => [host, { ...one, tags: change.tags?.[host] ?? [] }]),
  );
  const history = async (visit: (file: HistoricFile) => void): Promise<void> => {
    for (const [path, bytes] of FILES) visit({ path, bytes });
    for (const file of change.history ?? []) visit(file);
  };
  const request: SecretsRequest = {
    ...made,
    hosts,
    history,
    editors: change.editors ?? [editor.publicKey],
    ...(change.released !== false && { previous, base: 'a'.repeat(40) }),
  };
  return await planSecrets(request);
}

const lines = ({ grants }: SecretsPlan): string[] => grants.increases.map((grant) => grant.line);

test('planGrants() finds nothing new in a commit that asks for nothing new', async () => {
  const { grants, problems } = await plan();
  assert.deepEqual(problems, []);
  assert.deepEqual([grants.increases, grants.decreases, grants.needsApproval], [[], [], false]);
});

test('planGrants() takes the first release as it is: there is nothing to compare it with', async () => {
  const { grants } = await plan({ released: false });
  assert.equal(grants.needsApproval, false);
  assert.ok(grants.increases.length > 0);
});

test('planGrants() lists a new reader and a lost one, and wants approval for the gain alone', async () => {
  const grown = await plan({ uses: { ...USES, web1: ['secrets/hello.age', 'secrets/db.age'] } });
  assert.deepEqual(lines(grown), ['+ web1 may now read secrets/db.age']);
  assert.equal(grown.grants.needsApproval, true);
  const shrunk = await plan({ uses: { ...USES, web1: [] } });
  assert.deepEqual(shrunk.grants.decreases, ['- web1 no longer reads secrets/hello.age']);
  assert.equal(shrunk.grants.needsApproval, false);
});

test('planGrants() lists a changed host key with its fingerprint', async () => {
  const impostor = makeKey('web1');
  const { grants } = await plan({ keys: { ...keys, web1: impostor } });
  const { fingerprint } = parseAgeRecipient(impostor.publicKey);
  assert.deepEqual(grants.increases, [
    { line: `+ web1 has the new key ssh-ed25519 ${fingerprint}`, free: false },
  ]);
  assert.ok(grants.needsApproval);
});

test('planGrants() lists a new editor, a new re-keyer and a new host', async () => {
  const stranger = makeKey('stranger').publicKey;
  const added = await plan({ editors: [editor.publicKey, stranger] });
  assert.deepEqual(lines(added), [
    `+ ${keyFingerprint(stranger)} may now decrypt the source branch (editor)`,
  ]);
  const host = await plan({ uses: { ...USES, web2: ['secrets/hello.age'] } });
  const { fingerprint } = parseAgeRecipient(keys.web2.publicKey);
  assert.deepEqual(lines(host), [
    `+ web2 has the new key ssh-ed25519 ${fingerprint}`,
    '+ web2 may now read secrets/hello.age',
  ]);
});

test('planGrants() sees through a ciphertext that was copied to a path of another host, armored or not', async () => {
  for (const copy of [DB, Buffer.from(armor.encode(DB))]) {
    const files = new Map([...FILES, ['secrets/hello.age', copy]]);
    const copied = await plan({ files });
    assert.deepEqual(lines(copied), ['+ web1 may now read secrets/hello.age, the content of secrets/db.age']);
  }
});

test('planGrants() sees through a ciphertext that only history still holds', async () => {
  const old = await seal('an older password', editor);
  const files = new Map([...FILES, ['secrets/hello.age', old]]);
  const { grants } = await plan({ files, history: [{ path: 'secrets/old/db.age', bytes: old }] });
  assert.equal(grants.needsApproval, true);
  assert.match(grants.increases[0]?.line ?? '', /the content of secrets\/old\/db\.age/);
});

test('planGrants() lets a file be renamed for those who read it, and edited by who may', async () => {
  const renamed = new Map([
    ['secrets/db.age', DB],
    ['secrets/greeting.age', HELLO],
  ]);
  const uses = { ...USES, web1: ['secrets/greeting.age'] };
  assert.deepEqual(lines(await plan({ files: renamed, uses })), []);
  const edited = new Map([...FILES, ['secrets/hello.age', await seal('hello again', editor)]]);
  assert.deepEqual(lines(await plan({ files: edited })), []);
});

const POLICY = `
version = 1
[[rule]]
paths = ["secrets/**"]
tags = ["web"]
approval = "never"
[[rule]]
paths = ["secrets/db.age"]
hosts = ["db1"]
`;
const TAGGED = { web1: ['web'], web2: ['web'] };

test('planGrants() frees what the policy in force allows, by the tags of the last release', async () => {
  const files = new Map([...FILES, ['secrets/new.age', await seal('new', editor)]]);
  const uses = { ...USES, web1: ['secrets/hello.age', 'secrets/new.age'] };
  const tagged = { basePolicy: POLICY, files, uses, tags: TAGGED };
  const known = await plan({ ...tagged, baseTags: TAGGED });
  assert.deepEqual(known.grants.increases, [{ line: '+ web1 may now read secrets/new.age', free: true }]);
  assert.equal(known.grants.needsApproval, false);
  const untagged = await plan({ ...tagged, baseTags: {} });
  assert.equal(untagged.grants.needsApproval, true, 'a commit cannot give a host a tag and use it at once');
});

test('planGrants() never frees a copied secret, whatever the rules for its new path', async () => {
  const files = new Map([...FILES, ['secrets/new.age', DB]]);
  const uses = { ...USES, web1: ['secrets/hello.age', 'secrets/new.age'] };
  const { grants } = await plan({ basePolicy: POLICY, files, uses, tags: TAGGED, baseTags: TAGGED });
  assert.equal(grants.needsApproval, true);
});

test('planSecrets() refuses what contradicts the commit’s own policy: the last rule that names a path decides', async () => {
  const uses = { ...USES, web1: ['secrets/hello.age', 'secrets/db.age'] };
  const { problems } = await plan({ basePolicy: POLICY, uses, tags: TAGGED, baseTags: TAGGED });
  assert.deepEqual(
    problems.map(({ code, host, path }) => [code, host, path]),
    [['grant_denied', 'web1', 'secrets/db.age']],
  );
});

test('planGrants() wants approval for another policy, so that no commit grants itself a secret', async () => {
  const open = 'version = 1\n[[rule]]\npaths = ["**"]\nhosts = ["*"]\napproval = "never"\n';
  const uses = { ...USES, web1: ['secrets/hello.age', 'secrets/db.age'] };
  const options = { uses, tags: TAGGED, baseTags: TAGGED };
  const { grants, problems } = await plan({ ...options, basePolicy: POLICY, ownPolicy: open });
  assert.deepEqual(problems, []);
  assert.match(grants.message, /~ \.slipway\/policy\.toml becomes sha256:[0-9a-f]{64}\n/);
  assert.deepEqual(
    grants.increases.map(({ free }) => free),
    [false, false],
  );
  const first = await plan({ ...options, ownPolicy: open });
  assert.equal(first.grants.needsApproval, true, 'a first policy is a change too');
});

test('planSecrets() refuses editors that the policy does not list', async () => {
  const ownPolicy = `version = 1\neditors = ["${makeKey('other').publicKey}"]\n`;
  const { problems } = await plan({ basePolicy: ownPolicy });
  assert.deepEqual(
    problems.map((one) => one.code),
    ['editor_denied'],
  );
});

test('planSecrets() refuses a policy that it cannot read, and names the place', async () => {
  const wrong = [
    ['version = 1\n[[rule]]\npaths = []\n', /rule\[0\]\.paths/],
    ['version = 2\n', /version/],
    ['version = 1\n[[rules]]\n', /unknown key rules/],
    ['version = \n', /line 1/],
  ] as const;
  for (const [text, message] of wrong) {
    const { problems } = await plan({ basePolicy: text });
    assert.equal(problems[0]?.code, 'policy_wrong');
    assert.match(problems[0].message, message);
  }
});

test('planGrants() binds an approval to the exact set and to the release before', async () => {
  const uses = { ...USES, web1: ['secrets/hello.age', 'secrets/db.age'] };
  const one = (await plan({ uses })).grants;
  assert.equal(one.digest, (await plan({ uses })).grants.digest);
  assert.match(one.message, /^slipway-grants-v1\nrelease a{40}\n\+ web1 may now read secrets\/db\.age\n$/);
  const more = await plan({ uses: { ...uses, db1: ['secrets/db.age', 'secrets/hello.age'] } });
  assert.notEqual(one.digest, more.grants.digest);
});

test('matchesPath() keeps * within a name and lets ** cross folders', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['secrets/**', 'secrets/a/b.age', true],
    ['secrets/*', 'secrets/a/b.age', false],
    ['secrets/*.age', 'secrets/a.age', true],
    ['**/db.age', 'db.age', true],
    ['**/db.age', 'a/b/db.age', true],
    ['**/db.age', 'a/mydb.age', false],
    ['secrets/a+b?.age', 'secrets/a+bc.age', true],
    ['secrets/(x)[y].age', 'secrets/(x)[y].age', true],
    ['secrets/db.age', 'secrets/dbxage', false],
    ['secrets', 'secrets/db.age', false],
  ];
  for (const [pattern, path, expected] of cases) assert.equal(matchesPath(pattern, path), expected, pattern);
});

test('matchesPath() takes a path without wildcards for itself alone', () => {
  const path = fc.stringMatching(/^[A-Za-z0-9._+()[\]/-]{1,30}$/);
  fc.assert(fc.property(path, path, (one, other) => matchesPath(one, other) === (one === other)));
});
