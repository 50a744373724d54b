// PUT of the data plane, as `nix copy --to http://…` and `nix store copy-log` send it.
import type { BinaryCache } from '../cache/binary-cache.ts';
import { MAX_NARINFO_BYTES } from '../nix/narinfo.ts';
import { SlipwayError } from '../util/errors.ts';
import type { CacheWriteRequest } from './cache-request.ts';
import { decodeText } from './decode-body.ts';
import { readUpload, readUploadBytes, readUploadText } from './upload-body.ts';

const MAX_CACHE_INFO_BYTES = 4096;

export async function writeToCache(
  binaryCache: BinaryCache,
  incoming: CacheWriteRequest,
  maxNarSize: number,
): Promise<void> {
  const { route, cache, base, request, response, writer } = incoming;
  switch (route.kind) {
    case 'cache-info':
      checkCacheInfo(await readUploadText(incoming, MAX_CACHE_INFO_BYTES), cache.storeDir);
      break;
    case 'narinfo': {
      const bytes = await readUploadBytes(incoming, MAX_NARINFO_BYTES);
      const text = await decodeText(bytes, request.headers['content-encoding'], MAX_NARINFO_BYTES);
      await binaryCache.putNarInfo({ cache, ...(base && { base }), hash: route.hash, text, writer });
      break;
    }
    case 'nar': {
      // A compressed file may be larger than what is in it, but not by much.
      const body = readUpload(incoming, maxNarSize + maxNarSize / 64 + 1024 * 1024);
      const upload = { fileName: route.fileName, body, writer: writer.id, maxNarSize };
      await binaryCache.putNar({ cache, ...(base && { base }), ...upload });
      break;
    }
    case 'other': {
      const limit = binaryCache.sideFiles.limitOf(route.name);
      if (limit === undefined) throw unknownFile(route.name);
      const contentEncoding = request.headers['content-encoding'];
      const body = readUpload(incoming, limit);
      const upload = { name: route.name, body, contentEncoding, writer: writer.id };
      await binaryCache.putSideFile({ cache, ...(base && { base }), ...upload });
      break;
    }
  }
  response.writeHead(200, { 'content-length': 0 }).end();
}

/** Nix sends one when it believes that the cache is new. Ours is made by its settings; it only has to agree. */
function checkCacheInfo(text: string, storeDir: string): void {
  const [, offered] = /^StoreDir: *(\S+)$/m.exec(text) ?? [];
  if (offered === undefined || offered === storeDir) return;
  throw new SlipwayError('invalid', `This cache is for the store ${storeDir}, not ${offered}.`);
}

function unknownFile(name: string): SlipwayError {
  return new SlipwayError('not_found', `A cache does not store files like "${name.slice(0, 200)}".`);
}
