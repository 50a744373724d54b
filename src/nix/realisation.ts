// Realisations: which path an output of a content-addressed derivation has become (libstore/realisation.cc). Up to 2.34
// Nix keeps them as `realisations/<derivation's hash>!<output>.doi`, since 2.35 as `build-trace-v2/<derivation>/<output>.doi`.
// Nothing ties the path to the derivation but a signature, over JSON with sorted keys and without the signatures.
import { SlipwayError } from '../util/errors.ts';
import { parseStorePathBaseName } from './store-path.ts';

/** `hash`: the form up to 2.34, `id` being `sha256:<hex>!<output>`. `derivation`: the one since. */
export type RealisationKey =
  | { readonly form: 'hash'; readonly id: string }
  | { readonly form: 'derivation'; readonly drvPath: string; readonly outputName: string };

export interface Realisation {
  readonly key: RealisationKey;
  /** `<hash>-<name>`, without the store's folder. */
  readonly outPath: string;
  /** In the form up to 2.34: what the inputs have become, as `[id, outPath]`. */
  readonly dependencies: readonly (readonly [string, string])[];
  /** `name:base64`. */
  readonly signatures: readonly string[];
  /** Whether signatures are written as objects, as Nix since 2.35 does; it reads both. */
  readonly structured: boolean;
}

const OUTPUT = '[A-Za-z0-9+._?=-]{1,211}';
const ID = `sha256:[0-9a-f]{64}!${OUTPUT}`;
const ONE_ID = new RegExp(`^${ID}$`);
const BY_HASH = new RegExp(`^realisations/(${ID})\\.doi$`);
const BY_DERIVATION = new RegExp(`^build-trace-v2/([^/]{1,260}\\.drv)/(${OUTPUT})\\.doi$`);
const SIGNATURE = /^[^:\s]{1,128}:[A-Za-z0-9+/]{86}==$/;
const MOST_SIGNATURES = 64;

/** What the file of this name in a binary cache tells of; `undefined` when it is not the name of a realisation. */
export function parseRealisationName(name: string): RealisationKey | undefined {
  const id = BY_HASH.exec(name)?.[1];
  if (id !== undefined) return { form: 'hash', id };
  const [, drvPath, outputName] = BY_DERIVATION.exec(name) ?? [];
  if (drvPath === undefined || outputName === undefined || !isBaseName(drvPath)) return undefined;
  return { form: 'derivation', drvPath, outputName };
}

/** Parses and checks the file behind `key`. Throws `invalid`, also for one that tells of something else. */
export function parseRealisation(text: string, key: RealisationKey): Realisation {
  const fields = objectOf(parseJson(text));
  if (key.form === 'hash' && fields['id'] !== key.id) throw invalid('it tells of another output');
  const { outPath, signatures = [], dependentRealisations = {} } = fields;
  if (!isBaseName(outPath)) throw invalid('outPath is not a store path without its folder');
  if (!Array.isArray(signatures) || signatures.length > MOST_SIGNATURES)
    throw invalid(`signatures is not a list of at most ${MOST_SIGNATURES}`);
  return {
    key,
    outPath,
    dependencies: key.form === 'hash' ? dependenciesOf(dependentRealisations) : [],
    signatures: signatures.map(signatureOf),
    structured: signatures.some((one) => typeof one === 'object'),
  };
}

/** As Nix writes it: on one line, keys sorted. */
export function formatRealisation({ key, signatures, structured, ...facts }: Realisation): string {
  const written = structured ? signatures.map(asObject) : signatures;
  return JSON.stringify(
    key.form === 'hash'
      ? { ...byHash(key.id, facts), signatures: written }
      : { outPath: facts.outPath, signatures: written },
  );
}

/** What a signature covers. */
export function realisationFingerprint({ key, ...facts }: Realisation): string {
  if (key.form === 'hash') return JSON.stringify(byHash(key.id, facts));
  const { drvPath, outputName } = key;
  return JSON.stringify({ key: { drvPath, outputName }, value: { outPath: facts.outPath } });
}

function byHash(id: string, { dependencies, outPath }: Pick<Realisation, 'dependencies' | 'outPath'>) {
  return { dependentRealisations: Object.fromEntries(dependencies), id, outPath };
}

function dependenciesOf(value: unknown): (readonly [string, string])[] {
  const pairs = Object.entries(objectOf(value)).map(([id, outPath]) => {
    if (!ONE_ID.test(id) || !isBaseName(outPath)) throw invalid('a dependency is not an output and its path');
    return [id, outPath] as const;
  });
  return pairs.toSorted(([a], [b]) => (a < b ? -1 : 1));
}

function signatureOf(value: unknown): string {
  const text = typeof value === 'string' ? value : textOf(objectOf(value));
  if (!SIGNATURE.test(text)) throw invalid('a signature is not name:base64');
  return text;
}

function textOf({ keyName, sig }: Readonly<Record<string, unknown>>): string {
  if (typeof keyName !== 'string' || typeof sig !== 'string')
    throw invalid('a signature lacks keyName or sig');
  return `${keyName}:${sig}`;
}

function asObject(signature: string): { readonly keyName: string; readonly sig: string } {
  const [keyName = '', sig = ''] = signature.split(':', 2);
  return { keyName, sig };
}

function isBaseName(value: unknown): value is string {
  if (typeof value !== 'string') return false;
  try {
    parseStorePathBaseName(value);
    return true;
  } catch {
    return false;
  }
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('it is no JSON object');
  return value as Record<string, unknown>;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid('it is no JSON', error);
  }
}

function invalid(why: string, cause?: unknown): SlipwayError {
  return new SlipwayError('invalid', `The realisation is refused: ${why}.`, { cause });
}
