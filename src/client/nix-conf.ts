// Edits the text of a nix.conf so that it uses a cache: one word in `extra-substituters`, one in
// `extra-trusted-public-keys`, and a netrc file. What is there stays where it is; the same edit again changes nothing.

export interface CacheUse {
  /** URL of the cache. */
  readonly substituter: string;
  /** `name:base64`; a key of the same name is replaced. */
  readonly publicKeys: readonly string[];
  /** Where the token is; undefined for public caches. */
  readonly netrcFile: string | undefined;
}

export function editNixConf(text: string, use: CacheUse): string {
  const names = new Set(use.publicKeys.map((key) => key.split(':', 1)[0]));
  const withoutOld = mapWords(text, 'trusted-public-keys', (words) =>
    words.filter((word) => use.publicKeys.includes(word) || !names.has(word.split(':', 1)[0])),
  );
  let edited = addWords(withoutOld, 'substituters', [use.substituter]);
  edited = addWords(edited, 'trusted-public-keys', use.publicKeys);
  if (use.netrcFile === undefined || findSetting(edited, 'netrc-file') !== undefined) return edited;
  return appendLine(edited, `netrc-file = ${use.netrcFile}`);
}

/** The value of a setting as the last line that sets it says. */
export function findSetting(text: string, name: string): string | undefined {
  return settingsOf(text).findLast((setting) => setting.name === name)?.value;
}

interface Setting {
  readonly line: number;
  readonly name: string;
  readonly value: string;
  readonly comment: string;
}

function settingsOf(text: string): Setting[] {
  return text.split('\n').flatMap((source, line) => {
    const [, name, value = '', comment = ''] =
      /^\s*([a-z][a-z0-9-]*)\s*=\s*([^#]*?)\s*(#.*)?$/.exec(source) ?? [];
    return name === undefined ? [] : [{ line, name, value, comment }];
  });
}

/** Adds what no line of the setting, with `extra-` or without, has yet. */
function addWords(text: string, name: string, words: readonly string[]): string {
  const lines = settingsOf(text).filter((setting) => isOf(setting, name));
  const present = new Set(lines.flatMap(({ value }) => wordsOf(value)));
  const missing = words.filter((word) => !present.has(word));
  if (missing.length === 0) return text;
  const extra = lines.findLast((setting) => setting.name === `extra-${name}`);
  if (extra === undefined) return appendLine(text, `extra-${name} = ${missing.join(' ')}`);
  return replaceLine(text, extra, [...wordsOf(extra.value), ...missing]);
}

function mapWords(text: string, name: string, map: (words: readonly string[]) => readonly string[]): string {
  let edited = text;
  for (const setting of settingsOf(text).filter((one) => isOf(one, name))) {
    const words = wordsOf(setting.value);
    const kept = map(words);
    if (kept.length !== words.length) edited = replaceLine(edited, setting, kept);
  }
  return edited;
}

function isOf(setting: Setting, name: string): boolean {
  return setting.name === name || setting.name === `extra-${name}`;
}

function replaceLine(text: string, setting: Setting, words: readonly string[]): string {
  const lines = text.split('\n');
  const comment = setting.comment === '' ? '' : ` ${setting.comment}`;
  lines[setting.line] = `${setting.name} = ${words.join(' ')}${comment}`;
  return lines.join('\n');
}

function appendLine(text: string, line: string): string {
  const separator = text === '' || text.endsWith('\n') ? '' : '\n';
  return `${text}${separator}${line}\n`;
}

function wordsOf(value: string): string[] {
  return value.split(/\s+/).filter((word) => word !== '');
}
