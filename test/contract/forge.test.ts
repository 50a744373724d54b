// The three forges against servers on loopback that answer as their APIs do (shapes of GitHub's 2022-11-28 REST API,
// GitLab's v4, Forgejo's v1). The settings that Slipway prints, once a forge holds them, pass Slipway's own check.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { type Forge, type ForgeAccess, type ForgeKind, UNPROTECTED } from '../../src/effects/forge.ts';
import { openForgejo } from '../../src/effects/forge-forgejo.ts';
import { openGithub } from '../../src/effects/forge-github.ts';
import { openGitlab } from '../../src/effects/forge-gitlab.ts';
import { protectionSettings } from '../../src/pipeline/protection-settings.ts';
import { judgeProtection, protectedBranches } from '../../src/pipeline/release-protection.ts';
import { ERROR_CODES, isCode } from '../../src/util/errors.ts';

const MAIN = path.join(import.meta.dirname, '../../src/cli/main.ts');
const PROJECT = 'me/fleet';
const TOKEN = 'the-token';
/** Path and query -> JSON; anything else is 404. */
type Answers = Readonly<Record<string, unknown>>;

let folder = '';
before(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'slipway-forge-'));
  writeFileSync(path.join(folder, 'token'), `${TOKEN}\n`);
});
after(() => rmSync(folder, { recursive: true, force: true }));

class FixtureForge implements AsyncDisposable {
  readonly authorizations = new Set<string>();
  answers: Answers;
  readonly #server: Server;

  constructor(answers: Answers) {
    this.answers = answers;
    this.#server = createServer((request, response) => {
      this.authorizations.add(request.headers.authorization ?? '');
      const url = request.url ?? '';
      const known = Object.hasOwn(this.answers, url);
      const value = known ? this.answers[url] : { message: 'Not Found' };
      const status = typeof value === 'number' ? value : known ? 200 : 404;
      response.writeHead(status, { 'content-type': 'application/json', location: 'http://127.0.0.1:1/' });
      response.end(JSON.stringify(value));
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

const OPEN: Readonly<Record<ForgeKind, (access: ForgeAccess) => Forge>> = {
  github: openGithub,
  gitlab: openGitlab,
  forgejo: openForgejo,
};

async function read(kind: ForgeKind, branch: string, answers: Answers): ReturnType<Forge['readProtection']> {
  await using fixture = new FixtureForge(answers);
  const api = await fixture.listen();
  const access = { api, project: PROJECT, token: TOKEN, signal: new AbortController().signal };
  return await OPEN[kind](access).readProtection(branch);
}

const nothing: Readonly<Record<ForgeKind, Answers>> = {
  github: { '/repos/me/fleet/rules/branches/release': [] },
  gitlab: { '/projects/me%2Ffleet/protected_branches?per_page=100': [] },
  forgejo: { '/repos/me/fleet/branch_protections': [] },
};

for (const kind of ['github', 'gitlab', 'forgejo'] as const) {
  test(`${kind}: a branch without rules is told as unprotected`, async () => {
    assert.deepEqual(await read(kind, 'release', nothing[kind]), UNPROTECTED);
  });

  test(`${kind}: a token that may not look is told as such, and a redirect is not followed`, async () => {
    const [place = ''] = Object.keys(nothing[kind]);
    for (const status of [401, 403]) {
      const refusal = read(kind, 'release', { [place]: status });
      await assert.rejects(refusal, (error) => isCode(error, 'unauthorized'));
    }
    for (const status of [500, 302]) {
      const failure = read(kind, 'release', { [place]: status });
      await assert.rejects(failure, (error) => isCode(error, 'unavailable'));
    }
  });

  test(`${kind}: the settings that Slipway prints pass its own check`, async () => {
    const facts = { project: PROJECT, release: 'release', source: 'main', pusher: undefined };
    const answers = HOLD[kind](protectionSettings(kind, facts).map(({ body }) => body as Body));
    for (const wanted of protectedBranches('release', 'main')) {
      const protection = await read(kind, wanted.branch, answers);
      const states = judgeProtection(wanted, protection).map(({ state }) => state);
      assert.ok(!states.includes('bad'), `${wanted.branch}: ${JSON.stringify(protection)}`);
      if (wanted.role === 'release') assert.deepEqual(states, ['ok'], JSON.stringify(protection));
    }
  });
}

type Body = Readonly<Record<string, unknown>>;

/** What the forge answers once it holds the settings. */
const HOLD: Readonly<Record<ForgeKind, (bodies: readonly Body[]) => Answers>> = {
  github: (bodies) => {
    const branches = ['release', 'release-manifest', 'main'];
    const rulesOf = (branch: string): unknown[] =>
      bodies.flatMap((body, index) => {
        const { ref_name: refs } = body['conditions'] as { ref_name: { include: string[] } };
        const covers = refs.include.includes(`refs/heads/${branch}`);
        const rules = covers ? (body['rules'] as object[]) : [];
        return rules.map((rule) => ({ ...rule, ruleset_id: index + 1, ruleset_source: PROJECT }));
      });
    return Object.fromEntries([
      ...branches.map((branch) => [`/repos/me/fleet/rules/branches/${branch}`, rulesOf(branch)]),
      ...bodies.map((body, index) => [
        `/repos/me/fleet/rulesets/${index + 1}`,
        { id: index + 1, name: body['name'], bypass_actors: body['bypass_actors'] ?? [] },
      ]),
    ]) as Answers;
  },
  gitlab: (bodies) => ({
    '/projects/me%2Ffleet/protected_branches?per_page=100': bodies.map((body) => ({
      id: 1,
      name: body['name'],
      push_access_levels: body['allowed_to_push'] ?? [{ access_level: body['push_access_level'] }],
      merge_access_levels: [{ access_level: body['merge_access_level'] }],
      allow_force_push: body['allow_force_push'],
    })),
    '/projects/me%2Ffleet/approval_rules': [{ id: 1, name: 'All', approvals_required: 1 }],
  }),
  forgejo: (bodies) => ({ '/repos/me/fleet/branch_protections': bodies }),
};

test('github: whoever a ruleset lets by is not bound by it, and the older protection counts too', async () => {
  const answers = {
    '/repos/me/fleet/rules/branches/release': ['deletion', 'non_fast_forward', 'update'].map((type) => ({
      type,
      ruleset_id: 7,
    })),
    '/repos/me/fleet/rulesets/7': {
      bypass_actors: [{ actor_id: 5, actor_type: 'RepositoryRole', bypass_mode: 'always' }],
    },
  };
  const letBy = await read('github', 'release', answers);
  assert.deepEqual([letBy.forcePush, letBy.pushers], ['allowed', ['RepositoryRole 5']]);
  const classic = {
    ...nothing.github,
    '/repos/me/fleet/branches/release/protection': {
      url: 'https://api.github.com/repos/me/fleet/branches/release/protection',
      allow_force_pushes: { enabled: false },
      allow_deletions: { enabled: false },
      restrictions: { users: [{ login: 'bot' }], teams: [], apps: [{ slug: 'slipway' }] },
      required_pull_request_reviews: { required_approving_review_count: 2 },
    },
  };
  assert.deepEqual(await read('github', 'release', classic), {
    covered: true,
    forcePush: 'forbidden',
    deletion: 'forbidden',
    pushers: ['bot', 'slipway'],
    reviews: 2,
  });
});

test('gitlab: patterns match, the most permissive wins, and developers are everybody', async () => {
  const place = '/projects/me%2Ffleet/protected_branches?per_page=100';
  const one = {
    name: 'release*',
    push_access_levels: [{ access_level: 40, access_level_description: 'Maintainers' }],
    allow_force_push: false,
  };
  const two = { name: 'release', push_access_levels: [{ access_level: 30 }], allow_force_push: true };
  const strict = await read('gitlab', 'release-manifest', { [place]: [one, two] });
  assert.deepEqual([strict.pushers, strict.forcePush], [['Maintainers'], 'forbidden']);
  const loose = await read('gitlab', 'release', { [place]: [one, two] });
  assert.deepEqual([loose.pushers, loose.forcePush], ['everybody', 'allowed']);
});

test('forgejo: the exact rule goes before a pattern, and Gitea’s switch for force is seen', async () => {
  const place = '/repos/me/fleet/branch_protections';
  const pattern = { rule_name: 'release**', enable_push: true, enable_push_whitelist: false };
  const exact = {
    rule_name: 'release',
    enable_push: true,
    enable_push_whitelist: true,
    push_whitelist_usernames: ['bot'],
  };
  const found = await read('forgejo', 'release', { [place]: [pattern, exact] });
  assert.deepEqual(found.pushers, ['bot']);
  const other = await read('forgejo', 'release-manifest', {
    [place]: [{ ...pattern, enable_force_push: true }, exact],
  });
  assert.deepEqual([other.pushers, other.forcePush], ['everybody', 'allowed']);
});

interface Told {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function slipway(...args: readonly string[]): Promise<Told> {
  const run = promisify(execFile);
  const argv = [MAIN, 'doctor', 'release', ...args];
  return await run(process.execPath, argv, { env: { ...process.env, NO_COLOR: '1' } }).then(
    (done) => ({ code: 0, ...done }),
    (error: Told) => error,
  );
}

test('slipway doctor release tells what is open, with the exit code of a failed check, and shows no token', async () => {
  await using fixture = new FixtureForge(nothing.forgejo);
  const api = await fixture.listen();
  const flags = ['--forge', 'forgejo', '--api', api, '--token-file', path.join(folder, 'token')];
  const open = await slipway('https://forge.example.org/me/fleet.git', ...flags);
  assert.equal(open.code, ERROR_CODES.test_failed.exit);
  assert.match(open.stdout, /bad\s+release\s+its history can be rewritten/);
  assert.match(open.stdout, /bad\s+release-manifest\s+everybody who may write/);
  assert.match(open.stdout, /warn\s+main\s+no review is required/);
  assert.ok(!`${open.stdout}${open.stderr}`.includes(TOKEN));
  assert.deepEqual([...fixture.authorizations], [`token ${TOKEN}`]);
  fixture.answers = HOLD.forgejo(
    protectionSettings('forgejo', {
      project: PROJECT,
      release: 'release',
      source: 'main',
      pusher: 'bot',
    }).map(({ body }) => body as Body),
  );
  const good = await slipway('git@forge.example.org:me/fleet.git', ...flags);
  assert.equal(good.code, 0, good.stdout);
  assert.match(good.stdout, /ok\s+release\s+only bot may push/);
});

test('slipway doctor release --settings prints calls of the API, and asks when the forge is not known', async () => {
  const printed = await slipway('https://github.com/me/fleet', '--settings');
  assert.match(printed.stdout, /^POST https:\/\/api\.github\.com\/repos\/me\/fleet\/rulesets$/m);
  assert.match(printed.stdout, /"non_fast_forward"/);
  const unknown = await slipway('https://git.example.org/me/fleet', '--settings');
  assert.match(unknown.stderr, /Say it with --forge/);
  assert.equal(unknown.code, ERROR_CODES.invalid.exit);
});
