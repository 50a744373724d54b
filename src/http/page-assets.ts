// The files of the status page, from src/web. Browser code is TypeScript that Node turns into JavaScript by erasing its
// types, as it does with our own: no build step, nothing to go stale. Browsers load it as ES modules.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
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

/** Finds a file of the page by name; undefined for what is none of a browser's business. */
export type FindAsset = (name: string) => Promise<Asset | undefined>;

/** Reads each file when it is first asked for: a server that nobody looks at never loads the eraser of types. */
export function openPageAssets(folder = WEB): FindAsset {
  const known = new Map<string, Asset>();
  return async (name) => {
    const asset = known.get(name) ?? (isPublic(name) ? await readAsset(path.join(folder, name)) : undefined);
    if (asset) known.set(name, asset); // names that lead nowhere are not remembered: anybody can make them up
    return asset;
  };
}

/** Plain names only; tests and the compiler's settings stay out. */
function isPublic(name: string): boolean {
  return /^[a-z][a-z-]*\.(html|css|ts|svg)$/.test(name);
}

async function readAsset(file: string): Promise<Asset | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
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
