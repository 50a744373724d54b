// Which paths a secret may have in the repository: none that a tool on the way could take for something else.

const MAX_BYTES = 400;
// Controls, blanks, quotes, backslash, dollar and the like: agenix' own tools split and interpolate at these.
const HOSTILE = /[\s"'`\\$*?<>|;&(){}\p{Cc}\p{Cf}]/u;

/** What is wrong with the path, or undefined. */
export function findPathFault(path: string): string | undefined {
  if (path === '' || path.startsWith('/')) return 'it is not relative to the repository';
  if (Buffer.byteLength(path) > MAX_BYTES) return `it is longer than ${MAX_BYTES} bytes`;
  if (HOSTILE.test(path)) return 'it contains a blank, a quote, a control or a shell character';
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return 'it is not normalised';
  if (parts.some((part) => part.toLowerCase() === '.git')) return 'it leads into .git';
  if (parts.some((part) => part.startsWith('-'))) return 'a part of it begins with a dash';
  return path.startsWith('.slipway/') ? 'it lies in .slipway, which Slipway writes itself' : undefined;
}

/** Whether a path is an age file by its name. */
export function isAgePath(path: string): boolean {
  return path.toLowerCase().endsWith('.age');
}
