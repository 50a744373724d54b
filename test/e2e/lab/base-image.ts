// The base system under every test host, made with mmdebstrap and used read-only as the lower layer of each host's overlay.
import { join } from 'node:path';
import { builtOnce } from './built-once.ts';

/** The directory of the base system. */
export async function openBaseImage(): Promise<string> {
  return await builtOnce({
    folder: join(import.meta.dirname, 'image'),
    what: 'the base system of the test hosts (once, about 25 s)',
  });
}
