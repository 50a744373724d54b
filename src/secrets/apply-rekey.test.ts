import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAgeHeader } from '../age/age-header.ts';
import { parseAgeIdentities } from '../age/age-identity.ts';
import { parseAgeRecipient } from '../age/age-recipient.ts';
import { decryptWith } from '../age/decrypt-with.ts';
import { encryptTo } from '../age/encrypt-to.ts';
import { SlipwayError } from '../util/errors.ts';
import { applyRekey, type RekeyOutcome } from './apply-rekey.ts';
import { planSecrets } from './plan-secrets.ts';
import type { SecretsRequest } from './secrets-request.ts';
import { makeKey, makeRequest, releaseTree, seal, type ThrowAwayKey } from './secret-fleet.arbitrary.ts';
import type { SecretProblem } from './secret-problem.ts';
import { formatSecretsRecord, SECRETS_RECORD_PATH } from './secrets-record.ts';
import { memoryTree, sha256Hex } from './source-tree.ts';
import { verifyRelease, verifyUnreadable } from './verify-release.ts';

const rekeyer = makeKey('rekeyer');
const editor = makeKey('editor');
const keys = { web1: makeKey('web1'), web2: makeKey('web2') };

async function release(
  request: SecretsRequest,
  identity: ThrowAwayKey | undefined = rekeyer,
): Promise<RekeyOutcome> {
  const plan = await planSecrets(request);
  return await applyRekey(plan, {
    source: request.source,
    ...(request.previous && { previous: request.previous }),
    ...(identity && { identity: identity.identity }),
  });
}

async function open(key: ThrowAwayKey, file: Buffer | undefined): Promise<string> {
  const outcome = await decryptWith(await parseAgeIdentities(key.identity), file ?? Buffer.alloc(0));
  return outcome.kind === 'plaintext' ? outcome.plaintext.toString() : outcome.kind;
}

async function sourceFiles(): Promise<Map<string, Buffer>> {
  return new Map([
    ['flake.nix', Buffer.from('{ }')],
    ['secrets/own.age', await seal('own value', rekeyer, editor)],
    ['secrets/shared.age', await seal('shared value', rekeyer, editor)],
    ['secrets/unused.age', await seal('nobody', rekeyer, editor)],
  ]);
}

const uses = { web1: ['secrets/own.age', 'secrets/shared.age'], web2: ['secrets/shared.age'] };
const hostKeys = { web1: [keys.web1.publicKey], web2: [keys.web2.publicKey] };

async function rejection(work: Promise<unknown>): Promise<SlipwayError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof SlipwayError, 'it did not fail');
  return error;
}

function codes(error: SlipwayError): string[] {
  return (error.facts['problems'] as SecretProblem[]).map((problem) =>
    `${problem.code} ${problem.path ?? ''}`.trim(),
  );
}

test('applyRekey() makes files that open for exactly the hosts that use them', async () => {
  const files = await sourceFiles();
  const outcome = await release(makeRequest(files, keys, uses));
  const made = releaseTree(files, outcome.changes);
  assert.equal(await open(keys.web1, made.get('secrets/own.age')), 'own value');
  assert.equal(await open(keys.web2, made.get('secrets/own.age')), 'no_match');
  assert.equal(await open(keys.web1, made.get('secrets/shared.age')), 'shared value');
  assert.equal(await open(keys.web2, made.get('secrets/shared.age')), 'shared value');
  for (const stranger of [editor, rekeyer]) {
    assert.equal(await open(stranger, made.get('secrets/shared.age')), 'no_match');
  }
  assert.deepEqual([...made.keys()].toSorted(), [
    SECRETS_RECORD_PATH,
    'flake.nix',
    'secrets/own.age',
    'secrets/shared.age',
  ]);
  assert.deepEqual(outcome.counts, { reused: 0, rekeyed: 2, removed: 1 });
});

test('verifyRelease() and verifyUnreadable() find nothing wrong with what applyRekey() made', async () => {
  const files = await sourceFiles();
  const outcome = await release(makeRequest(files, keys, uses));
  const tree = memoryTree(releaseTree(files, outcome.changes));
  const used = Object.entries(uses).flatMap(([host, paths]) => paths.map((path) => ({ host, path })));
  const evaluated = new Set(Object.keys(uses));
  const facts = { tree, hostKeys, evaluated, editors: [editor.publicKey] };
  assert.deepEqual(await verifyRelease({ ...facts, uses: used }), []);
  const fewer = used.filter(({ host }) => host !== 'web2');
  const wrong = await verifyRelease({ ...facts, uses: fewer });
  assert.deepEqual(
    wrong.map(({ code, host, path }) => [code, host, path]),
    [['release_unused', 'web2', 'secrets/shared.age']],
  );
  assert.deepEqual(await verifyUnreadable(tree, outcome.record, { identity: rekeyer.identity }), []);
  const readable = await verifyUnreadable(tree, outcome.record, { identity: keys.web2.identity });
  assert.deepEqual(
    readable.map((problem) => problem.path),
    ['secrets/shared.age'],
  );
});

test('applyRekey() a second time changes no byte and needs no identity', async () => {
  const files = await sourceFiles();
  const first = await release(makeRequest(files, keys, uses));
  const previous = memoryTree(releaseTree(files, first.changes));
  const request = makeRequest(files, keys, uses, previous);
  const plan = await planSecrets(request);
  const second = await applyRekey(plan, { source: request.source, previous });
  assert.deepEqual(second.changes, first.changes);
  assert.deepEqual(second.counts, { reused: 2, rekeyed: 0, removed: 1 });
});

test('applyRekey() keeps the hosts’ files when a source was only re-encrypted for another editor', async () => {
  const files = await sourceFiles();
  const first = await release(makeRequest(files, keys, uses));
  const previous = memoryTree(releaseTree(files, first.changes));
  files.set('secrets/own.age', await seal('own value', rekeyer, editor, makeKey()));
  files.set('secrets/shared.age', await seal('another value', rekeyer, editor, makeKey()));
  const second = await release(makeRequest(files, keys, uses, previous));
  const [before, after] = [releaseTree(files, first.changes), releaseTree(files, second.changes)];
  assert.deepEqual(after.get('secrets/own.age'), before.get('secrets/own.age'));
  assert.equal(await open(keys.web2, after.get('secrets/shared.age')), 'another value');
  assert.deepEqual(second.counts, { reused: 1, rekeyed: 1, removed: 1 });
  assert.deepEqual(await verifyRelease({ tree: memoryTree(after), hostKeys }), []);
});

test('applyRekey() writes a new file when a host comes or goes', async () => {
  const files = await sourceFiles();
  const first = await release(makeRequest(files, keys, uses));
  const previous = memoryTree(releaseTree(files, first.changes));
  const request = makeRequest(files, keys, { web1: uses.web1, web2: [] }, previous);
  const plan = await planSecrets(request);
  assert.deepEqual(
    plan.items.map((item) => [item.path, item.reason, item.granted, item.revoked]),
    [
      ['secrets/own.age', 'unchanged', [], []],
      ['secrets/shared.age', 'recipients', [], ['web2']],
    ],
  );
  const second = await release(request);
  const made = releaseTree(files, second.changes);
  assert.equal(await open(keys.web2, made.get('secrets/shared.age')), 'no_match');
  assert.equal(await open(keys.web1, made.get('secrets/shared.age')), 'shared value');
});

test('applyRekey() makes a file anew that was altered on the release branch', async () => {
  const files = await sourceFiles();
  const first = await release(makeRequest(files, keys, uses));
  const altered = releaseTree(files, first.changes);
  altered.set('secrets/own.age', await seal('forged', keys.web1));
  const plan = await planSecrets(makeRequest(files, keys, uses, memoryTree(altered)));
  assert.deepEqual(
    plan.items.map((item) => item.reason),
    ['altered', 'unchanged'],
  );
});

test('applyRekey() lists every file that cannot be re-keyed at once, and gives nothing', async () => {
  const files = await sourceFiles();
  const damaged = Buffer.from(await seal('x', rekeyer));
  damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
  files.set('secrets/damaged.age', damaged);
  files.set('secrets/empty.age', await seal('', rekeyer));
  files.set('secrets/foreign.age', await seal('x', editor));
  files.set('secrets/foreign2.age', await seal('x', editor));
  const all = [...files.keys()].filter((path) => path.endsWith('.age'));
  const error = await rejection(release(makeRequest(files, keys, { web1: all })));
  assert.equal(error.code, 'secrets_failed');
  assert.deepEqual(codes(error), [
    'source_damaged secrets/damaged.age',
    'plaintext_empty secrets/empty.age',
    'source_undecryptable secrets/foreign.age',
    'source_undecryptable secrets/foreign2.age',
  ]);
});

test('applyRekey() refuses a plan with problems, an absent identity and an unusable one', async () => {
  const files = await sourceFiles();
  files.set('secrets/broken.age', Buffer.from('not an age file'));
  const request = makeRequest(
    files,
    { web1: keys.web1 },
    { web1: ['secrets/broken.age'], web2: ['secrets/none.age'] },
  );
  const error = await rejection(release(request));
  assert.deepEqual(codes(error), ['file_missing secrets/none.age', 'source_malformed secrets/broken.age']);
  const good = makeRequest(files, keys, uses);
  assert.match(
    (await rejection(applyRekey(await planSecrets(good), { source: good.source }))).message,
    /no re-key identity/,
  );
  const bad = { publicKey: '', identity: Buffer.from('AGE-SECRET-KEY-1CANARY') };
  const refused = await rejection(release(good, bad));
  assert.equal(refused.code, 'secrets_failed');
  assert.ok(
    !JSON.stringify([refused.message, refused.next, refused.facts, refused.stack]).includes('CANARY'),
  );
});

test('applyRekey() keeps armored files armored', async () => {
  const files = await sourceFiles();
  const text = await encryptTo([parseAgeRecipient(rekeyer.publicKey)], Buffer.from('armored'), {
    armor: true,
  });
  files.set('secrets/own.age', text);
  const made = releaseTree(files, (await release(makeRequest(files, keys, uses))).changes);
  const file = made.get('secrets/own.age') ?? Buffer.alloc(0);
  assert.equal(parseAgeHeader(file).armored, true);
  assert.equal(await open(keys.web1, file), 'armored');
});

test('applyRekey() keeps what a host had whose evaluation failed', async () => {
  const files = await sourceFiles();
  const first = await release(makeRequest(files, keys, uses));
  const previous = memoryTree(releaseTree(files, first.changes));
  files.delete('secrets/own.age');
  const second = await release(makeRequest(files, keys, { web1: undefined, web2: uses.web2 }, previous));
  const made = releaseTree(files, second.changes);
  assert.equal(await open(keys.web1, made.get('secrets/own.age')), 'own value');
  assert.equal(await open(keys.web1, made.get('secrets/shared.age')), 'shared value');
  assert.deepEqual(second.counts, { reused: 2, rekeyed: 0, removed: 1 });
});

test('applyRekey() lets the re-key identity be rotated without touching a host’s file', async () => {
  const files = await sourceFiles();
  const next = makeKey('next rekeyer');
  const first = await release({ ...makeRequest(files, keys, uses), rekeyers: [rekeyer.publicKey] });
  const both = new Map([
    ['secrets/own.age', await seal('own value', rekeyer, next, editor)],
    ['secrets/shared.age', await seal('shared value', rekeyer, next, editor)],
  ]);
  const tree = (outcome: RekeyOutcome) => memoryTree(releaseTree(both, outcome.changes));
  const rekeyers = [rekeyer.publicKey, next.publicKey];
  const second = await release({ ...makeRequest(both, keys, uses, tree(first)), rekeyers });
  assert.deepEqual(second.counts, { reused: 2, rekeyed: 0, removed: 0 });
  const alone = new Map([
    ['secrets/own.age', await seal('own value', next, editor)],
    ['secrets/shared.age', await seal('shared value', next, editor)],
  ]);
  const request = { ...makeRequest(alone, keys, uses, tree(second)), rekeyers: [next.publicKey] };
  const third = await release(request, next);
  assert.deepEqual(third.counts, { reused: 2, rekeyed: 0, removed: 0 });
  assert.deepEqual(third.record.rekeyers, [parseAgeRecipient(next.publicKey).fingerprint]);
  const lost = await release({ ...makeRequest(files, keys, uses, tree(first)), rekeyers }, next).catch(
    () => 'failed',
  );
  assert.notEqual(lost, 'failed');
});

test('applyRekey() lists the re-keyer as reader only where it is a host too', async () => {
  const files = await sourceFiles();
  const forge = { ...keys, forge1: rekeyer };
  const request = makeRequest(files, forge, { ...uses, forge1: ['secrets/own.age'] });
  const outcome = await release(request);
  const made = releaseTree(files, outcome.changes);
  assert.equal(await open(rekeyer, made.get('secrets/own.age')), 'own value');
  assert.equal(await open(rekeyer, made.get('secrets/shared.age')), 'no_match');
});

test('applyRekey() of a tree without used secrets leaves the age files out and writes no record', async () => {
  const files = await sourceFiles();
  const outcome = await release(makeRequest(files, keys, { web1: [] }), undefined);
  assert.deepEqual([...releaseTree(files, outcome.changes).keys()], ['flake.nix']);
});

test('verifyRelease() finds a record, a file or a key that is not as it should be', async () => {
  const files = await sourceFiles();
  const outcome = await release(makeRequest(files, keys, uses));
  const good = releaseTree(files, outcome.changes);
  const record = outcome.record;
  const find = async (path: string, bytes: Buffer | undefined, known = hostKeys): Promise<string[]> => {
    const tree = new Map(good);
    if (bytes === undefined) tree.delete(path);
    else tree.set(path, bytes);
    const found = await verifyRelease({
      tree: memoryTree(tree),
      hostKeys: known,
      editors: [editor.publicKey],
    });
    return found.map((problem) => `${problem.code} ${problem.path ?? ''}`);
  };
  const recorded = (change: object): Buffer => formatSecretsRecord({ ...record, ...change });
  assert.deepEqual(await find('secrets/own.age', undefined), ['release_file_missing secrets/own.age']);
  assert.deepEqual(await find('secrets/own.age', Buffer.from('x')), ['release_file_differs secrets/own.age']);
  assert.deepEqual(await find('secrets/stray.age', Buffer.from('x')), [
    'release_unmanaged secrets/stray.age',
  ]);
  assert.deepEqual(await find(SECRETS_RECORD_PATH, Buffer.from('x')), [
    `record_wrong ${SECRETS_RECORD_PATH}`,
  ]);
  const wrong = 'release_recipients_wrong secrets/shared.age';
  assert.deepEqual(await find(SECRETS_RECORD_PATH, recorded({ hosts: { web1: record.hosts['web1'] } })), [
    wrong,
  ]);
  const rotated = { ...hostKeys, web2: [makeKey().publicKey] };
  assert.deepEqual(await find('flake.nix', Buffer.from('x'), rotated), [wrong]);
  const leaky = await seal('own value', keys.web1, editor);
  const secrets = record.secrets.map((one) =>
    one.path === 'secrets/own.age' ? { ...one, releaseSha256: sha256Hex(leaky) } : one,
  );
  good.set(SECRETS_RECORD_PATH, recorded({ secrets }));
  assert.deepEqual(await find('secrets/own.age', leaky), ['release_recipients_wrong secrets/own.age']);
  const uncovered = [{ host: 'web2', path: 'secrets/own.age' }];
  good.set(SECRETS_RECORD_PATH, recorded({}));
  const found = await verifyRelease({ tree: memoryTree(good), hostKeys, uses: uncovered });
  assert.deepEqual(
    found.map((problem) => problem.code),
    ['release_file_missing'],
  );
});
