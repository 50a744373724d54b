// The files of the status page, from src/web. Browser code is TypeScript that Node turns into JavaScript by erasing its
// types, as it does with our own: no build step, nothing to go stale. Browsers load it as ES modules.
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import path from 'node:path';

export interface Asset {
  readonly body: string;
  readonly contentType: string;
  readonly etag: string;
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.ts': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

const WEB = path.join(import.meta.dirname, '../web');

/** All files by name; tests and the compiler's settings are none of a browser's business. */
export async function readPageAssets(folder = WEB): Promise<ReadonlyMap<string, Asset>> {
  const names = (await readdir(folder)).filter(
    (name) => CONTENT_TYPES[path.extname(name)] !== undefined && !name.endsWith('.test.ts'),
  );
  const assets = names.map(async (name) => [name, await readAsset(path.join(folder, name))] as const);
  return new Map(await Promise.all(assets));
}

async function readAsset(file: string): Promise<Asset> {
  const text = await readFile(file, 'utf8');
  const extension = path.extname(file);
  const body = extension === '.ts' ? eraseTypes(text) : text;
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  return { body, contentType: CONTENT_TYPES[extension] ?? 'text/plain', etag };
}

/** Node 24 warns that this function may still change; the lock on Node's version is our answer to that. */
function eraseTypes(text: string): string {
  const warn = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = warn;
  }
}
