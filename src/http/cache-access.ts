// Who may do what to a cache's URLs, decided before anything is looked up: a private cache cannot be told from one that
// does not exist. A contributor's URLs read and fill its own overlay over the cache; `/{cache}~{writer}/` names an overlay.
import type { IncomingMessage } from 'node:http';
import {
  isAdmin,
  mayContribute,
  mayReadOverlay,
  mayRead,
  mayWrite,
  writerOf,
  type Caller,
  type CallerFinder,
} from '../auth/caller.ts';
import type { BinaryCache } from '../cache/binary-cache.ts';
import type { Cache } from '../cache/cache-registry.ts';
import type { Writer } from '../cache/writer.ts';
import { SlipwayError } from '../util/errors.ts';

export interface ReadAccess {
  /** The cache of the URL. */
  readonly cache: Cache;
  /** Where a path is looked for, in this order. */
  readonly layers: readonly Cache[];
  readonly caller: Caller | undefined;
}

export interface WriteAccess {
  /** Where uploads go: the cache, or the writer's overlay over `base`. */
  readonly cache: Cache;
  readonly base?: Cache;
  readonly writer: Writer;
}

export interface UploadAccess extends WriteAccess {
  /** Caches whose chunks the writer may know of, because it may read them. */
  readonly readable: readonly Cache[];
}

export interface AccessParts {
  readonly cache: BinaryCache;
  readonly tokens: CallerFinder;
}

/** Public caches are read without looking at credentials: a stale netrc line must not lock anybody out. */
export async function admitReader(
  parts: AccessParts,
  request: IncomingMessage,
  name: string,
): Promise<ReadAccess> {
  const { caches } = parts.cache;
  const [baseName = '', overlayOf] = name.split('~');
  const base = await caches.find(baseName);
  const { authorization } = request.headers;
  if (base?.isPublic === true && authorization === undefined && overlayOf === undefined)
    return { cache: base, layers: [base], caller: undefined };
  const caller = await parts.tokens.findCaller(authorization);
  const seesBase = base?.isPublic === true || mayRead(caller, baseName);
  if (overlayOf === undefined) {
    if (!seesBase) throw unauthorized();
    return { ...(await ownLayers(parts, found(base, name), caller)), caller };
  }
  if (!mayReadOverlay(caller, baseName, overlayOf)) throw unauthorized();
  const overlay = found(await caches.find(name), name);
  return { cache: overlay, layers: seesBase ? [overlay, found(base, name)] : [overlay], caller };
}

/** Who may have all paths of a cache told: whoever has a token to read it, also where reading needs none. */
export async function admitLister(
  parts: AccessParts,
  request: IncomingMessage,
  name: string,
): Promise<Cache> {
  const { cache, caller } = await admitReader(parts, request, name);
  if (!mayRead(caller, name.split('~', 1)[0] ?? '')) throw unauthorized();
  return cache;
}

export async function admitWriter(
  parts: AccessParts,
  request: IncomingMessage,
  name: string,
): Promise<WriteAccess> {
  const [baseName = '', overlayOf] = name.split('~');
  const caller = await parts.tokens.findCaller(request.headers.authorization);
  return await admitWrites(parts, { caller, baseName, overlayOf, request });
}

/** As admitWriter, for uploads that leave out what the writer may know to be there. */
export async function admitUploader(
  parts: AccessParts,
  request: IncomingMessage,
  name: string,
): Promise<UploadAccess> {
  const access = await admitWriter(parts, request, name);
  const caller = await parts.tokens.findCaller(request.headers.authorization);
  const all = await parts.cache.caches.list();
  return { ...access, readable: all.filter((cache) => mayKnow(caller, cache)) };
}

function mayKnow(caller: Caller | undefined, cache: Cache): boolean {
  const [baseName = '', overlayOf] = cache.name.split('~');
  if (overlayOf !== undefined) return mayReadOverlay(caller, baseName, overlayOf);
  return cache.isPublic || mayRead(caller, baseName);
}

interface WriteRequest {
  readonly caller: Caller | undefined;
  readonly baseName: string;
  readonly overlayOf: string | undefined;
  readonly request: IncomingMessage;
}

async function admitWrites(parts: AccessParts, wanted: WriteRequest): Promise<WriteAccess> {
  const { caller, baseName, overlayOf, request } = wanted;
  const { caches } = parts.cache;
  const base = await caches.find(baseName);
  const trusted = mayWrite(caller, baseName) && overlayOf === undefined;
  const contributes = caller !== undefined && mayContribute(caller, baseName);
  if (!trusted && !contributes) {
    // Whoever cannot see the cache is not told that it is there.
    throw caller !== undefined && (base?.isPublic === true || mayRead(caller, baseName))
      ? readOnly(baseName)
      : unauthorized();
  }
  const cache = found(base, baseName);
  const writer = writerFrom(caller as Caller, request);
  if (trusted) return { cache, writer };
  if (overlayOf !== undefined && overlayOf !== writer.id) throw readOnly(`${baseName}~${overlayOf}`);
  return { cache: await caches.ensureOverlay(cache, writer.id), base: cache, writer };
}

/** A contributor sees what it wrote itself beside what is published. */
async function ownLayers(
  { cache: { caches } }: AccessParts,
  base: Cache,
  caller: Caller | undefined,
): Promise<{ readonly cache: Cache; readonly layers: readonly Cache[] }> {
  if (
    caller === undefined ||
    isAdmin(caller) ||
    !mayContribute(caller, base.name) ||
    mayWrite(caller, base.name)
  )
    return { cache: base, layers: [base] };
  const overlay = await caches.find(`${base.name}~${writerOf(caller)}`);
  return { cache: base, layers: overlay === undefined ? [base] : [base, overlay] };
}

function writerFrom(caller: Caller, request: IncomingMessage): Writer {
  const address = request.socket.remoteAddress;
  return {
    id: writerOf(caller),
    name: caller.name,
    token: caller.id,
    ...(caller.claims !== undefined && { claims: caller.claims }),
    ...(address !== undefined && { address }),
  };
}

function found(cache: Cache | undefined, name: string): Cache {
  if (cache !== undefined) return cache;
  throw new SlipwayError('not_found', `There is no cache named ${name}.`);
}

function unauthorized(): SlipwayError {
  return new SlipwayError('unauthorized', 'This needs a valid token with access to the cache.', {
    next: 'Put the token as password into the netrc file that nix.conf names, or see "slipway token create".',
  });
}

function readOnly(name: string): SlipwayError {
  return new SlipwayError('forbidden', `This token may read the cache ${name}, not write to it.`, {
    next: `Make one that may: slipway token create --write ${name} <name>`,
  });
}
