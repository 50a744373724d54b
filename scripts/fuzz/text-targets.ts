// Fuzz targets of texts: what Nix writes, what stands in URLs and headers, and people's own configuration files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findCredential, parseAuthorization } from '../../src/auth/authorization-header.ts';
import { formatScope, parseScope } from '../../src/auth/scope.ts';
import { formatToken, generateToken, parseToken } from '../../src/auth/token.ts';
import { parseLegacyNarName } from '../../src/cache/legacy-nar-names.ts';
import { parseNarName } from '../../src/cache/nar-names.ts';
import { editNetrc } from '../../src/client/netrc.ts';
import { editNixConf, findSetting } from '../../src/client/nix-conf.ts';
import { parseDeployTarget } from '../../src/deploy/parse-deploy-target.ts';
import { parseDryActivate } from '../../src/deploy/parse-dry-activate.ts';
import { parseNixError } from '../../src/effects/nix-error.ts';
import { parsePathInfos } from '../../src/effects/path-info.ts';
import { parseCacheUrl } from '../../src/http/cache-route.ts';
import { parseRange } from '../../src/http/range.ts';
import { formatDerivation, parseDerivation } from '../../src/nix/derivation.ts';
import { parseDebugLink, parseDebugLinkName } from '../../src/nix/debug-link.ts';
import { formatHash, parseHash } from '../../src/nix/hash.ts';
import { parseLogLine } from '../../src/nix/log-event.ts';
import { formatNarInfo, parseNarInfo } from '../../src/nix/narinfo.ts';
import {
  formatRealisation,
  parseRealisation,
  parseRealisationName,
  realisationFingerprint,
} from '../../src/nix/realisation.ts';
import {
  generateSecretKey,
  parsePublicKey,
  parseSecretKey,
  publicKeyOf,
  verifyText,
} from '../../src/nix/signature.ts';
import { parseStorePath, storePathBaseName, storePathHash, storePathName } from '../../src/nix/store-path.ts';
import { expect, type FuzzTarget } from './fuzz-target.ts';

const vector = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../test/vectors', name), 'utf8');
const HASH = '0c5b7i2rqk8kpgpn3ma3yzqzq2cjhv3p';

function text(
  name: string,
  seeds: readonly string[],
  run: (text: string) => void,
  more: Partial<FuzzTarget> = {},
): FuzzTarget {
  return { name, seeds: () => seeds, run: (input) => run(input.toString()), ...more };
}

const narInfo = text(
  'narinfo',
  [vector('nix/tree.narinfo')],
  (input) => {
    const info = parseNarInfo(input);
    const formatted = formatNarInfo(info);
    expect(formatNarInfo(parseNarInfo(formatted)) === formatted, 'a narinfo reads back as another one');
  },
  { words: ['StorePath: ', 'References: ', 'CA: text:sha256:', 'Sig: ', 'NarSize: ', '\n'] },
);

const derivation = text(
  'drv',
  [vector('nix/d-1.0.drv')],
  (input) => {
    const formatted = formatDerivation(parseDerivation(input));
    expect(
      formatDerivation(parseDerivation(formatted)) === formatted,
      'a derivation reads back as another one',
    );
  },
  { words: ['Derive([', '("out","', '\\n', '\\', '[]', '""'] },
);

const TRACE = `build-trace-v2/${HASH}-hello.drv/out.doi`;
const REALISATION = `realisations/sha256:${'ab'.repeat(32)}!out.doi`;

const realisation = text(
  'realisation',
  [
    `{"dependentRealisations":{},"id":"sha256:${'ab'.repeat(32)}!out","outPath":"${HASH}-hello","signatures":[]}`,
    `{"outPath":"${HASH}-hello","signatures":[{"keyName":"a-1","sig":"${'A'.repeat(86)}=="}]}`,
  ],
  (input) => {
    for (const name of [TRACE, REALISATION]) {
      const key = parseRealisationName(name);
      const parsed = key && attempt(() => parseRealisation(input, key));
      if (key === undefined || parsed === undefined) continue;
      const again = parseRealisation(formatRealisation(parsed), key);
      expect(realisationFingerprint(again) === realisationFingerprint(parsed), 'a realisation changes');
    }
    parseRealisationName(input);
  },
  { words: ['"signatures":', '"outPath":', '"id":', '"dependentRealisations":', 'sha256:', '!out'] },
);

const BUILD_ID = '01'.repeat(20);

const debugLink = text(
  'debug-link',
  [
    `{"archive":"../nar/${'0'.repeat(52)}.nar.xz","member":"lib/debug/.build-id/01/${'01'.repeat(19)}.debug"}`,
    `debuginfo/${BUILD_ID}.debug`,
  ],
  (input) => {
    parseDebugLinkName(input);
    const { narFile } = parseDebugLink(input, BUILD_ID);
    expect(/^[0-9a-z]{52}\.nar[.a-z0-9]*$/.test(narFile), 'a link leads out of the folder of NARs');
  },
  { words: ['../', '"archive":', '"member":', '.nar.zst', '%2f'] },
);

const signature = text(
  'signature',
  (() => {
    const secret = generateSecretKey('cache-1');
    return [secret, publicKeyOf(parseSecretKey(secret)), 'a:AAAA', 'cache-1:'];
  })(),
  (input) => {
    const parsed = attempt(() => parsePublicKey(input));
    if (parsed !== undefined) verifyText([parsed], 'message', input);
    parseSecretKey(input);
  },
);

const storePath = text(
  'store-path',
  [`/nix/store/${HASH}-hello-2.12`, `/nix/store/${HASH}-a`, `${HASH}-x.drv`],
  (input) => {
    const path = parseStorePath(input);
    const again = `/nix/store/${storePathHash(path)}-${storePathName(path)}`;
    expect(again === input && storePathBaseName(path) === input.slice(11), 'a store path falls apart');
  },
);

const hash = text(
  'hash',
  [
    'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0',
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=',
    'sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709',
  ],
  (input) => {
    const parsed = parseHash(input);
    for (const format of ['nix32', 'hex', 'sri'] as const)
      expect(formatHash(parseHash(formatHash(parsed, format))) === formatHash(parsed), 'a hash changes');
  },
);

const range = text('range', ['bytes=0-', 'bytes=5-9', 'bytes=-5', 'bytes=0-1,3-4', 'items=0-'], (input) => {
  for (const length of [0, 1, 10, 1000]) {
    const found = parseRange(input, length);
    if (found.kind === 'part')
      expect(
        found.start >= 0 && found.start < found.end && found.end <= length,
        `${found.start}-${found.end} of ${length}`,
      );
  }
});

const urls = text(
  'cache-url',
  [
    `/main/${HASH}.narinfo`,
    '/main/nix-cache-info',
    `/main/nar/${HASH}.nar`,
    '/main~w1/log/x.drv',
    '/a%2fb/../c',
  ],
  (input) => {
    parseCacheUrl(input);
    parseNarName(input);
    parseLegacyNarName(input);
  },
  { words: ['%2e%2e', '..', '//', '?', '#', '%00', '~'] },
);

const authorization = text(
  'authorization',
  [`Bearer ${formatToken(generateToken())}`, 'Basic bml4OnNsd19hX2I=', 'bearer x', 'Basic '],
  (input) => {
    findCredential(input);
    parseAuthorization(input);
    parseToken(input);
  },
);

const scope = text(
  'scope',
  ['write:main', 'read:*', 'manage:a-*', 'agent:web1', 'attic:{"a":1}'],
  (input) => {
    const parsed = parseScope(input);
    expect(formatScope(parseScope(formatScope(parsed))) === formatScope(parsed), 'a scope changes');
  },
);

const netrc = text(
  'netrc',
  [
    'machine a login b password c\n',
    '# x\nmachine a\n login b\n password c\ndefault login d\n',
    'macdef init\ncd\n\n',
  ],
  (input) => {
    const once = editNetrc(input, 'cache.example.org', 'slw_a_b');
    expect(editNetrc(once, 'cache.example.org', 'slw_a_b') === once, 'editing twice changes a netrc again');
    expect(once.includes('cache.example.org'), 'the host is not there');
  },
  { words: ['machine', 'default', 'login', 'password', 'macdef', '"', '\n'] },
);

const nixConf = text(
  'nix-conf',
  [
    'substituters = https://a https://b\ntrusted-public-keys = k:1\n',
    '# c\nextra-substituters = x\n',
    'include a.conf\n',
  ],
  (input) => {
    const use = { substituter: 'https://c/main', publicKeys: ['main:AAAA'], netrcFile: '/n' };
    const once = editNixConf(input, use);
    expect(editNixConf(once, use) === once, 'editing twice changes a nix.conf again');
    findSetting(once, 'substituters');
  },
  { words: ['substituters', 'trusted-public-keys', ' = ', '#', '\\\n', '!include '] },
);

const log = text(
  'internal-json',
  [
    '@nix {"action":"start","id":1,"level":3,"parent":0,"text":"building","type":105,"fields":["/nix/store/x.drv","",1,1]}',
    '@nix {"action":"result","id":1,"type":101,"fields":["line"]}',
    '@nix {"action":"msg","level":0,"msg":"error"}',
    '@nix {"action":"stop","id":1}',
    'plain',
  ],
  (input) => void parseLogLine(input),
  { words: ['@nix ', '"fields":', '{"action":"'] },
);

const dryActivate = text(
  'dry-activate',
  [
    'would stop the following units: a.service, b.timer\nwould start the following units: c.service\n',
    'would restart the following units: nginx.service\nwould activate the configuration...\n',
  ],
  (input) => void parseDryActivate(input),
  { words: ['would stop', 'would start', 'would reload', ': ', ', '] },
);

const nixError = text(
  'nix-error',
  ['error: a\n  at /x:1:2:\n', 'error:\n … while\n error: b\n'],
  (input) => void parseNixError(input),
);

const pathInfo = text(
  'path-info',
  [vector('nix/path-info-2.8.json')],
  (input) => void parsePathInfos(input),
  { json: true },
);

const deployTarget = text(
  'deploy-target',
  ['.#web1', '.#web1.system', 'github:a/b#"x.y".z', '#'],
  (input) => void parseDeployTarget(input),
);

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'SlipwayError') return undefined;
    throw error;
  }
}

export const TEXT_TARGETS: readonly FuzzTarget[] = [
  narInfo,
  derivation,
  realisation,
  debugLink,
  signature,
  storePath,
  hash,
  range,
  urls,
  authorization,
  scope,
  netrc,
  nixConf,
  log,
  dryActivate,
  nixError,
  pathInfo,
  deployTarget,
];
