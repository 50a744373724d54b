// Fuzz targets of JSON and TOML contracts: what forges, flakes, agents and other caches' clients send.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { agentReport } from '../../src/api/agent-report.ts';
import {
  atticConfigureCache,
  atticCreateCache,
  atticMissingPaths,
  atticNarInfo,
} from '../../src/api/attic-v1.ts';
import { deployRsOutput } from '../../src/api/deploy-rs.ts';
import { fleetConfig } from '../../src/api/fleet-config.ts';
import { formatIssue } from '../../src/api/issue-text.ts';
import { formatManifest, releaseManifest } from '../../src/api/manifest.ts';
import { missingPathsQuestion } from '../../src/api/slipway-cache-v1.ts';
import { parseWebhookNews } from '../../src/fleet/webhook-news.ts';
import { verifyWebhook } from '../../src/fleet/webhook-signature.ts';
import { parseFleetFacts } from '../../src/pipeline/fleet-facts.ts';
import { parsePolicy } from '../../src/secrets/secrets-policy.ts';
import { formatSecretsRecord, parseSecretsRecord } from '../../src/secrets/secrets-record.ts';
import { expect, type FuzzTarget } from './fuzz-target.ts';
import { parseJson } from '../../src/util/parse-json.ts';

const HASH = '0c5b7i2rqk8kpgpn3ma3yzqzq2cjhv3p';
const SYSTEM = `/nix/store/${HASH}-nixos-system-web1`;

/** Any schema of ours. */
interface Schema<T> {
  safeParse(value: unknown): {
    readonly success: boolean;
    readonly data?: T;
    readonly error?: { readonly issues: readonly unknown[] };
  };
}

function schema<T>(
  name: string,
  seeds: readonly unknown[],
  contract: Schema<T>,
  check: (value: T) => void = () => undefined,
): FuzzTarget {
  return {
    name,
    json: true,
    seeds: () => seeds.map((seed) => JSON.stringify(seed)),
    run: (input) => {
      const value = parseJson(input.toString());
      if (value === undefined) return;
      const parsed = contract.safeParse(value);
      if (parsed.success) check(parsed.data as T);
      else
        expect(
          formatIssue(parsed.error?.issues[0] as Parameters<typeof formatIssue>[0]).length > 0,
          'no reason is told',
        );
    },
  };
}

const manifest = schema(
  'manifest',
  [
    {
      version: 1,
      serial: 3,
      commit: 'a'.repeat(40),
      source: 'b'.repeat(40),
      hosts: { web1: { system: 'x86_64-linux', toplevel: SYSTEM, mode: 'pull' } },
    },
  ],
  releaseManifest,
  (value) => {
    const bytes = Buffer.from(formatManifest(value));
    const again = releaseManifest.safeParse(JSON.parse(bytes.toString()));
    expect(again.success && Buffer.from(formatManifest(again.data)).equals(bytes), 'a manifest changes');
  },
);

const fleet = schema(
  'fleet-config',
  [
    {
      hosts: {
        web1: {
          mode: 'pull',
          tags: ['web'],
          wave: 1,
          publicKey: 'ssh-ed25519 AAAA',
          health: { units: ['nginx.service'], timeout: 120 },
        },
      },
      secrets: { editors: ['ssh-ed25519 AAAA laptop'] },
      release: { branch: 'release' },
      caches: ['slipway:main'],
    },
  ],
  fleetConfig,
);

const deployRs = schema(
  'deploy-rs',
  [
    {
      sshUser: 'root',
      nodes: { a: { hostname: 'a.example', profiles: { system: { path: SYSTEM, user: 'root' } } } },
    },
  ],
  deployRsOutput,
);

const attic: readonly FuzzTarget[] = [
  schema(
    'attic-upload',
    [
      {
        cache: 'main',
        store_path_hash: HASH,
        store_path: SYSTEM,
        references: [],
        system: null,
        deriver: null,
        sigs: [],
        ca: null,
        nar_hash: `sha256:${'0'.repeat(64)}`,
        nar_size: 12,
      },
    ],
    atticNarInfo,
  ),
  schema(
    'attic-create',
    [
      {
        keypair: 'Generate',
        is_public: true,
        store_dir: '/nix/store',
        priority: 41,
        upstream_cache_key_names: [],
      },
    ],
    atticCreateCache,
  ),
  schema(
    'attic-configure',
    [{ retention_period: { Period: 5 }, is_public: false }, { retention_period: 'Global' }],
    atticConfigureCache,
  ),
  schema('attic-missing', [{ cache: 'main', store_path_hashes: [HASH] }], atticMissingPaths),
];

const missingPaths = schema(
  'missing-paths',
  [{ paths: [HASH] }, { store_path_hashes: [HASH] }],
  missingPathsQuestion,
);
const agent = schema(
  'agent-report',
  [{ host: 'web1', current: SYSTEM, at: 1, operation: 'idle' }],
  agentReport,
);

const webhook: FuzzTarget = {
  name: 'webhook',
  json: true,
  seeds: () => {
    const folder = join(import.meta.dirname, '../../test/vectors/webhooks');
    return readdirSync(folder).map((name) => readFileSync(join(folder, name)));
  },
  run: (input) => {
    for (const forge of ['github', 'gitlab', 'forgejo'] as const) {
      const name = forge === 'gitlab' ? 'Push Hook' : 'push';
      const header = (key: string): string | undefined =>
        key.endsWith('-event')
          ? name
          : key.includes('signature') || key.includes('token')
            ? 'sha256=00'
            : '1234';
      const delivery = { forge, header, body: input };
      refuse(() => verifyWebhook(delivery, ['secret'], 1_700_000_000_000));
      refuse(() => void parseWebhookNews(delivery));
    }
  },
};

const secretsRecord: FuzzTarget = {
  name: 'secrets-record',
  json: true,
  seeds: () => [JSON.stringify({ version: 1, rekeyers: [], hosts: {}, secrets: [] })],
  run: (input) => {
    const record = parseSecretsRecord(input);
    if (record === undefined) return;
    const again = parseSecretsRecord(formatSecretsRecord(record));
    expect(
      again !== undefined && formatSecretsRecord(again).equals(formatSecretsRecord(record)),
      'a record changes',
    );
  },
};

const policy: FuzzTarget = {
  name: 'secrets-policy',
  seeds: () => ['version = 1\n[[rule]]\npaths = ["secrets/*"]\nhosts = ["*"]\napproval = "required"\n'],
  words: ['[[rule]]', 'approvers', '=', '["', '"""', '\n'],
  run: (input) => void parsePolicy(input),
};

const fleetFacts: FuzzTarget = {
  name: 'fleet-facts',
  json: true,
  seeds: () => [
    JSON.stringify({ slipway: { hosts: {} }, nodes: {}, hosts: ['web1'], rules: ['x'] }),
    JSON.stringify({ slipway: null, nodes: { web1: { hostname: 'a', user: null } }, hosts: ['web1'] }),
  ],
  run: (input) => {
    const value = parseJson(input.toString());
    if (value !== undefined) refuse(() => void parseFleetFacts(value));
  },
};

function refuse(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof Error && error.constructor.name === 'SlipwayError')) throw error;
  }
}

export const JSON_TARGETS: readonly FuzzTarget[] = [
  manifest,
  fleet,
  deployRs,
  ...attic,
  missingPaths,
  agent,
  webhook,
  secretsRecord,
  policy,
  fleetFacts,
];
