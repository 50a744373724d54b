// Edits the text of a netrc file: one entry a host, as curl takes the first that fits (everything/curl netrc.md).
// Values are words; ours never hold spaces, quotes or backslashes.
import { SlipwayError } from '../util/errors.ts';

/** Sets the password for `host`, keeping all other entries as they are. */
export function editNetrc(text: string, host: string, password: string): string {
  if (![host, password].every((word) => /^[\x21\x23-\x26\x28-\x5b\x5d-\x7e]+$/.test(word)))
    throw new SlipwayError('invalid', 'A netrc file cannot hold this host or token.');
  const entry = `machine ${host} login slipway password ${password}`;
  const found = findEntry(text, host);
  if (found === undefined) {
    // Before `default`, which catches every host.
    const at = startOfDefault(text) ?? text.length;
    const before = text.slice(0, at);
    const separator = before === '' || before.endsWith('\n') ? '' : '\n';
    return `${before}${separator}${entry}\n${text.slice(at)}`;
  }
  const rest = text.slice(found.end);
  return `${text.slice(0, found.start)}${entry}${rest === '' || rest.startsWith('\n') ? rest : `\n${rest}`}`;
}

interface Word {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

function findEntry(text: string, host: string): { readonly start: number; readonly end: number } | undefined {
  const words = wordsOf(text);
  const at = words.findIndex((word, i) => word.text === 'machine' && words[i + 1]?.text === host);
  const first = words[at];
  if (first === undefined) return undefined;
  let end = words[at + 1]?.end ?? first.end;
  for (let i = at + 2; i + 1 < words.length && isKey(words[i]?.text); i += 2) end = words[i + 1]?.end ?? end;
  return { start: first.start, end };
}

function isKey(text: string | undefined): boolean {
  return text === 'login' || text === 'password' || text === 'account';
}

function startOfDefault(text: string): number | undefined {
  return wordsOf(text).find((word) => word.text === 'default')?.start;
}

/** Comments run from `#` to the end of their line. */
function wordsOf(text: string): Word[] {
  return [...text.matchAll(/#[^\n]*|\S+/g)].flatMap((match) =>
    match[0].startsWith('#')
      ? []
      : [{ text: match[0], start: match.index, end: match.index + match[0].length }],
  );
}
