// `nix path-info --json -r` in the shapes that it had: a list (2.8), a map of path to facts (2.19), and the versioned
// object with base names and structured hashes (2.33, --json-format 2).
import { formatHash, parseHash, type Hash } from '../nix/hash.ts';
import { parseStorePath, parseStorePathBaseName, type StorePath } from '../nix/store-path.ts';
import { SlipwayError } from '../util/errors.ts';
import { commandFailed, exec } from './exec.ts';

export interface PathInfo {
  readonly path: StorePath;
  readonly narHash: Hash;
  readonly narSize: number;
  /** References without the path itself are not told apart: a self-reference is in the list. */
  readonly references: readonly StorePath[];
  /** Base name of the deriver. */
  readonly deriver?: string;
  readonly signatures: readonly string[];
  readonly contentAddress?: string;
}

export interface PathInfoOptions {
  /** A store other than the default, such as `local?root=DIR`. */
  readonly store?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** Of the roots' names in one call: a third of what Linux lets argv and environment have with the usual stack of 8 MiB. */
const ARGV_BYTES = 640 * 1024;
/** About 700 bytes a path: closures of half a million paths. */
const MAX_OUTPUT = 384 * 1024 * 1024;

/** The closure of the given paths, each path once. An invalid path is the error `not_found`. */
export async function readClosure(
  paths: readonly StorePath[],
  options: PathInfoOptions = {},
): Promise<PathInfo[]> {
  const closure = new Map<StorePath, PathInfo>();
  for (const roots of callsFor([...new Set(paths)]))
    for (const info of parsePathInfos(await runPathInfo(roots, options))) closure.set(info.path, info);
  return [...closure.values()];
}

/** What all stores of a large machine name would not fit into one argv; each call takes a process's start. */
function callsFor(roots: readonly StorePath[]): StorePath[][] {
  const calls: StorePath[][] = [];
  let room = 0;
  for (const root of roots) {
    const bytes = root.length + 1 + 8; // its NUL, and the pointer to it
    if (bytes > room) {
      calls.push([]);
      room = ARGV_BYTES;
    }
    calls.at(-1)?.push(root);
    room -= bytes;
  }
  return calls;
}

async function runPathInfo(paths: readonly StorePath[], options: PathInfoOptions): Promise<string> {
  const store = options.store === undefined ? [] : ['--store', options.store];
  const flags = ['--extra-experimental-features', 'nix-command', 'path-info', '--json', '-r', ...store];
  const argv = ['nix', ...flags, ...paths];
  const result = await exec(argv, {
    maxOutput: MAX_OUTPUT,
    ...(options.env && { env: options.env }),
    ...(options.signal && { signal: options.signal }),
  });
  if (result.code === 0) return result.stdout.toString('utf8');
  const invalid = /path '([^']+)' is not valid/.exec(result.stderr)?.[1];
  throw invalid === undefined ? commandFailed(['nix', 'path-info'], result) : missing(invalid);
}

/** Any of Nix's three shapes. */
export function parsePathInfos(text: string): PathInfo[] {
  const json = parseJson(text);
  if (Array.isArray(json)) return json.map((facts) => toPathInfo(asObject(facts), undefined));
  const map = asObject(json);
  const infos = 'info' in map && typeof map['version'] === 'number' ? asObject(map['info']) : map;
  return Object.entries(infos).map(([path, facts]) => {
    if (facts === null) throw missing(path);
    return toPathInfo(asObject(facts), path);
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new SlipwayError('internal', 'nix path-info did not answer with JSON.', { cause });
  }
}

type JsonObject = Readonly<Record<string, unknown>>;

function toPathInfo(facts: JsonObject, key: string | undefined): PathInfo {
  const path = parsePath(key ?? textOf(facts['path']));
  if (facts['valid'] === false || facts['narHash'] === undefined) throw missing(path);
  const deriver = facts['deriver'];
  const contentAddress = formatContentAddress(facts['ca']);
  return {
    path,
    narHash: parseHash(hashText(facts['narHash'])),
    narSize: Number(facts['narSize']),
    references: listOf(facts['references']).map((reference) => parsePath(textOf(reference))),
    ...(typeof deriver === 'string' && deriver !== ''
      ? { deriver: deriver.slice(deriver.lastIndexOf('/') + 1) }
      : {}),
    signatures: listOf(facts['signatures']).map(signatureText),
    ...(contentAddress === undefined ? {} : { contentAddress }),
  };
}

function parsePath(text: string): StorePath {
  return text.startsWith('/') ? parseStorePath(text) : parseStorePathBaseName(text);
}

/** Text, or `{algorithm, format, hash}` of the newest shape. */
function hashText(value: unknown): string {
  if (typeof value === 'string') return value;
  const facts = asObject(value);
  return `${textOf(facts['algorithm'])}:${textOf(facts['hash'])}`;
}

/** Text, or `{keyName, sig}` of format 3. */
function signatureText(value: unknown): string {
  if (typeof value === 'string') return value;
  const facts = asObject(value);
  return `${textOf(facts['keyName'])}:${textOf(facts['sig'])}`;
}

/** Text as in a narinfo, or `{method, hash}`. */
function formatContentAddress(value: unknown): string | undefined {
  if (typeof value === 'string') return value === '' ? undefined : value;
  if (typeof value !== 'object' || value === null) return undefined;
  const facts = asObject(value);
  const hash = formatHash(parseHash(hashText(facts['hash'])));
  const method = textOf(facts['method']);
  return method === 'text' ? `text:${hash}` : `fixed:${method === 'nar' ? 'r:' : ''}${hash}`;
}

function asObject(value: unknown): JsonObject {
  if (typeof value === 'object' && value !== null) return value as JsonObject;
  throw new SlipwayError('internal', 'nix path-info printed something that Slipway does not know.', {
    next: 'Report the output of "nix --version".',
  });
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function missing(path: string): SlipwayError {
  return new SlipwayError('not_found', `${path} is not in the store.`, {
    next: 'Build it first, or check the spelling.',
  });
}
