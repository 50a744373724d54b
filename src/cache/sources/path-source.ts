// Where paths come from that a cache does not hold itself: an upstream, or this machine's own store. They answer the same
// two questions as the cache's own lookup: a narinfo, and a NAR of known length.
//
// What a source offers is served under `nar/<store hash>-<NAR hash>.nar`, uncompressed: the bytes and their length are
// the same whoever gives them, so a transfer can be resumed at any byte, from another replica, or from storage once the
// NAR was stored meanwhile. The name says all that is needed to find the path again after a restart.
import { formatBase32 } from '../../nix/base32.ts';
import { formatNarInfo, type NarInfo } from '../../nix/narinfo.ts';
import { storePathHash } from '../../nix/store-path.ts';
import type { OpenedContent } from '../content-reader.ts';
import { renderNarInfo, type RenderedNarInfo } from '../rendered-narinfo.ts';

/** A path that can be served, though the cache does not hold it. */
export interface PathOffer {
  readonly narinfo: RenderedNarInfo;
  readonly narHash: Uint8Array;
  /** The plain NAR. Its `start` gives `undefined` when the NAR cannot be had; what it gives is whole or ends in an error. */
  readonly nar: OpenedContent;
}

export interface PathSource {
  /**
   * `undefined` when the source does not have the path. Rejects when it cannot tell; never later than `signal` says.
   * `hash` are 32 characters.
   */
  find(hash: string, signal: AbortSignal): Promise<PathOffer | undefined>;
}

/** Text of a narinfo that offers the plain NAR, with these signatures. */
export function renderOffer(info: NarInfo, signatures: readonly string[]): RenderedNarInfo {
  const { fileHash: _, ...rest } = info;
  const hash = storePathHash(info.storePath);
  const url = `nar/${hash}-${formatBase32(info.narHash.bytes)}.nar`;
  const offered = { ...rest, url, compression: 'none', fileSize: info.narSize, signatures };
  return renderNarInfo(hash, formatNarInfo(offered), false);
}
