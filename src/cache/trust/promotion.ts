// Brings a contributor's path from its overlay into the cache itself, under the cache's own key. Who may write and
// whom readers trust are two questions: a contributor's word alone never publishes anything, one of these does.
//   content-address: path and bytes determine each other, and the server has computed both;
//   signature: a key that the cache accepts has signed the very path, hash and references;
//   agreement: so many contributors, as the cache asks for, hold the same bytes;
//   operator: somebody in charge says so.
import type { Hash } from '../../nix/hash.ts';
import { fingerprint, parseNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { parsePublicKey, signText, verifyText } from '../../nix/signature.ts';
import { storePathHash } from '../../nix/store-path.ts';
import type { Database } from '../../storage/database.ts';
import type { Cache } from '../cache-registry.ts';
import { isContentAddressProven } from './content-address.ts';
import { findMissingReference } from './closure-check.ts';
import { writePath } from '../path-rows.ts';
import type { SigningKeys } from '../signing-keys.ts';
import type { Writer } from '../writer.ts';

export type PromotionRule = 'content-address' | 'signature' | 'agreement' | 'operator';

export type Promotion =
  | { readonly kind: 'promoted'; readonly rule: PromotionRule }
  | { readonly kind: 'kept'; readonly reason: string };

/** A path of an overlay. */
export interface OverlayPath {
  readonly base: Cache;
  readonly overlay: Cache;
  readonly hash: string;
}

interface HeldPath {
  readonly info: NarInfo;
  readonly contentId: number;
  readonly contentHash: Uint8Array;
  readonly flatHash: Uint8Array | null;
}

export class Promoter {
  readonly #database: Database;
  readonly #keys: SigningKeys;

  constructor(database: Database, keys: SigningKeys) {
    this.#database = database;
    this.#keys = keys;
  }

  /** Publishes the path in the base when a rule says so, or an operator (`by`: whoever that is). */
  async promote(path: OverlayPath, writer: Writer, by?: 'operator'): Promise<Promotion> {
    const held = await this.#find(path);
    if (held === undefined) return { kind: 'kept', reason: 'the overlay does not hold the path' };
    const rule = by ?? (await this.#ruleFor(path, held));
    if (rule === undefined) return { kind: 'kept', reason: 'no rule of the cache speaks for it' };
    const missing = path.base.closed
      ? await findMissingReference(this.#database.read, [path.base], held.info)
      : undefined;
    if (missing !== undefined) return { kind: 'kept', reason: `it needs ${missing}, which is not published` };
    await this.#publish(path, held, writer, rule);
    return { kind: 'promoted', rule };
  }

  async #find({ overlay, hash }: OverlayPath): Promise<HeldPath | undefined> {
    const row = await this.#database.read
      .selectFrom('store_path')
      .innerJoin('content', 'content.id', 'store_path.content_id')
      .select(['store_path.narinfo', 'content.id', 'content.hash', 'content.flat_hash'])
      .where('store_path.cache_id', '=', overlay.id)
      .where('store_path.hash', '=', hash)
      .where('store_path.quarantined_at', 'is', null)
      .where('content.damaged_at', 'is', null)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    const info = parseNarInfo(row.narinfo, overlay.storeDir);
    return { info, contentId: row.id, contentHash: row.hash, flatHash: row.flat_hash };
  }

  async #ruleFor(path: OverlayPath, held: HeldPath): Promise<PromotionRule | undefined> {
    const { info, contentHash, flatHash } = held;
    const hashes = { nar: sha256(contentHash), flat: flatHash === null ? undefined : sha256(flatHash) };
    if (isContentAddressProven(info, path.base.storeDir, hashes)) return 'content-address';
    const accepted = path.base.acceptedKeys.map(parsePublicKey);
    const message = fingerprint(info);
    if (info.signatures.some((signature) => verifyText(accepted, message, signature))) return 'signature';
    const { agreement } = path.base;
    if (agreement > 0 && (await this.#countAgreeing(path, message)) >= agreement) return 'agreement';
    return undefined;
  }

  /** How many identities hold the path with the same hash, size and references, each in its own overlay. */
  async #countAgreeing({ base, hash }: OverlayPath, message: string): Promise<number> {
    const rows = await this.#database.read
      .selectFrom('store_path')
      .innerJoin('cache', 'cache.id', 'store_path.cache_id')
      .select(['store_path.narinfo', 'store_path.writer'])
      .where('cache.base_id', '=', base.id)
      .where('store_path.hash', '=', hash)
      .where('store_path.quarantined_at', 'is', null)
      .execute();
    const agreeing = rows.filter((row) => fingerprint(parseNarInfo(row.narinfo, base.storeDir)) === message);
    return new Set(agreeing.map((row) => row.writer)).size;
  }

  async #publish(path: OverlayPath, held: HeldPath, writer: Writer, rule: PromotionRule): Promise<void> {
    const overlayKeys = new Set((await this.#keys.get(path.overlay.name)).map((key) => key.name));
    const foreign = held.info.signatures.filter((text) => !overlayKeys.has(text.split(':', 1)[0] ?? ''));
    const message = fingerprint(held.info);
    const own = (await this.#keys.get(path.base.name)).map((key) => signText(key, message));
    const info = { ...held.info, signatures: foreign };
    const conflict = await this.#database.write(
      async (transaction) =>
        await writePath(transaction, {
          cache: path.base,
          info,
          contentId: held.contentId,
          own,
          writer,
          way: `promoted:${rule}`,
          complete: path.base.closed,
        }),
    );
    if (conflict) throw conflict;
  }
}

function sha256(bytes: Uint8Array): Hash {
  return { algo: 'sha256', bytes };
}

/** The paths of an overlay that the closure of `hash` needs and the base lacks, references first. */
export async function planPromotion(
  database: Database,
  { base, overlay, hash }: OverlayPath,
): Promise<string[]> {
  const order: string[] = [];
  const seen = new Set<string>();
  const stack: { readonly hash: string; readonly done: boolean }[] = [{ hash, done: false }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if (next.done) order.push(next.hash);
    if (next.done || seen.has(next.hash)) continue;
    seen.add(next.hash);
    const rows = await database.read
      .selectFrom('store_path')
      .select(['cache_id', 'narinfo'])
      .where('cache_id', 'in', [base.id, overlay.id])
      .where('hash', '=', next.hash)
      .where('quarantined_at', 'is', null)
      .execute();
    const held = rows.find((row) => row.cache_id === overlay.id);
    if (held === undefined || rows.some((row) => row.cache_id === base.id)) continue;
    stack.push({ hash: next.hash, done: true });
    const info = parseNarInfo(held.narinfo, base.storeDir);
    for (const reference of info.references) stack.push({ hash: storePathHash(reference), done: false });
  }
  return order;
}
