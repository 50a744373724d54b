// Decides which packs are written anew, and together: those of which little is used, and small ones once there are enough.
// Pure. A dense pack is only rewritten into one at least twice its size (or up to a cheap floor), so however many small
// uploads come, a byte is copied some five times on its way into a large pack, not once for every eight uploads.

const MIB = 1024 * 1024;
/** A pack is sparse when less than this part of it is used. */
const SPARSE = 0.5;
/** Dense packs from this size on stay: 64 of them make a gigabyte. */
export const SMALL_PACK_BYTES = 16 * MIB;
/** So many small packs, or so many bytes in them, are worth putting together. */
export const ENOUGH_SMALL = 8;
const ENOUGH_BYTES = 32 * MIB;
/** Below a pack's limit of 64 MiB, with room for the index. */
const GROUP_BYTES = 60 * MIB;
/** So much is copied for any number of small packs. */
const CHEAP_BYTES = MIB;

export interface PackUse {
  readonly size: number;
  /** Of frames that are still needed. */
  readonly liveBytes: number;
}

/** The groups to write anew, each into one pack. */
export function planPackGroups<Pack extends PackUse>(packs: readonly Pack[]): Pack[][] {
  const sparse = packs.filter(isSparse);
  const small = packs.filter((pack) => !isSparse(pack) && pack.size < SMALL_PACK_BYTES);
  const chosen = chooseSmall(small, sumOf(sparse));
  const worthIt = sparse.length > 0 || chosen.length >= ENOUGH_SMALL || sumOf(chosen) >= ENOUGH_BYTES;
  return worthIt ? fillGroups([...sparse, ...chosen]) : [];
}

export function isSparse({ size, liveBytes }: PackUse): boolean {
  return liveBytes < size * SPARSE;
}

/** The smallest, up to the last one that is no larger than all before it together: none is copied into less than twice its size. */
function chooseSmall<Pack extends PackUse>(small: readonly Pack[], beside: number): Pack[] {
  const bySize = small.toSorted((a, b) => a.liveBytes - b.liveBytes);
  let [sum, count] = [beside, 0];
  for (const [index, { liveBytes }] of bySize.entries()) {
    if (liveBytes <= Math.max(sum, CHEAP_BYTES)) count = index + 1;
    sum += liveBytes;
  }
  return bySize.slice(0, count);
}

function fillGroups<Pack extends PackUse>(packs: readonly Pack[]): Pack[][] {
  const groups: Pack[][] = [];
  let room = 0;
  for (const pack of packs.toSorted((a, b) => a.liveBytes - b.liveBytes)) {
    if (pack.liveBytes > room || groups.length === 0) {
      groups.push([]);
      room = GROUP_BYTES;
    }
    groups.at(-1)?.push(pack);
    room -= pack.liveBytes;
  }
  // What is left over alone gains nothing by being copied.
  return groups.filter((group) => group.length > 1 || group.some(isSparse));
}

function sumOf(packs: readonly PackUse[]): number {
  return packs.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
}
