// Where debug information of pushed paths lies, as clients wrote it, under either of the names that clients ask for. What
// nix wrote names the file that it sent; that file is not kept byte for byte, so the link names the NAR by its own hash,
// by which everybody can check what he gets.
import { debugLinkNames, formatDebugLink, parseDebugLink } from '../nix/debug-link.ts';
import type { Database } from '../storage/database.ts';
import { isCode } from '../util/errors.ts';
import { formatBase32 } from '../nix/base32.ts';
import type { Cache } from './cache-registry.ts';
import type { ContentReader } from './content-reader.ts';
import { parseNarName } from './nar-names.ts';
import type { SideFile, SideFiles } from './side-files.ts';

export interface DebugLinksParts {
  readonly database: Database;
  readonly contents: ContentReader;
  readonly sideFiles: SideFiles;
}

/** `text`: the link to hand out. Else the file is none that we understand, and goes out as it came. */
export type FoundDebugLink = { readonly text: string } | SideFile;

export class DebugLinks {
  readonly #parts: DebugLinksParts;

  constructor(parts: DebugLinksParts) {
    this.#parts = parts;
  }

  /** `asked`: the name that the client has asked for. */
  async find(cache: Cache, buildId: string, asked: string): Promise<FoundDebugLink | undefined> {
    for (const name of new Set([asked, ...debugLinkNames(buildId)])) {
      const file = await this.#parts.sideFiles.find(cache, name);
      if (file !== undefined) return (await this.#renamed(cache, file, buildId)) ?? file;
    }
    return undefined;
  }

  async #renamed(cache: Cache, file: SideFile, buildId: string): Promise<FoundDebugLink | undefined> {
    if (file.contentEncoding !== undefined) return undefined;
    const sent = await this.#read(file.contentId);
    if (sent === undefined) return undefined;
    try {
      const { narFile } = parseDebugLink(sent, buildId);
      const narHash = await this.#findSent(cache, narFile);
      if (narHash === undefined) return undefined;
      const suffix = parseNarName(narFile)?.suffix ?? '';
      return { text: formatDebugLink({ buildId, narFile: `${formatBase32(narHash)}.nar${suffix}` }) };
    } catch (error) {
      if (isCode(error, 'invalid')) return undefined;
      throw error;
    }
  }

  async #read(contentId: number): Promise<string | undefined> {
    const content = await this.#parts.contents.open(contentId, 'raw');
    const pieces = await content?.start({ start: 0, end: content.length });
    return pieces && Buffer.concat(await Array.fromAsync(pieces)).toString();
  }

  /** Hash of the NAR in a file that a client has sent, once a narinfo has claimed it. */
  async #findSent(cache: Cache, fileName: string): Promise<Uint8Array | undefined> {
    const row = await this.#parts.database.read
      .selectFrom('nar_upload')
      .innerJoin('content', 'content.id', 'nar_upload.content_id')
      .select('content.hash')
      .where('nar_upload.cache_id', '=', cache.id)
      .where('nar_upload.file_name', '=', fileName)
      .where('expires_at', 'is', null)
      .executeTakeFirst();
    return row?.hash;
  }
}
