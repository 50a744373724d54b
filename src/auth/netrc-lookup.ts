// Finds the credentials for a host in the text of a netrc file, as curl does for Nix: the first `machine` that fits, else
// `default`. The value of an Authorization header, to be sent to that host only.

/** `Basic …`, or `undefined` when the file has nothing for the host. */
export function findNetrcAuthorization(text: string, host: string): string | undefined {
  const words = text.split('\n').flatMap((line) =>
    line
      .replace(/(^|\s)#.*$/, '')
      .split(/\s+/)
      .filter(Boolean),
  );
  const machine = words.findIndex((word, i) => word === 'machine' && words[i + 1] === host);
  const start = machine === -1 ? words.indexOf('default') : machine + 1;
  if (start === -1) return undefined;
  const entry = new Map<string, string>();
  for (let i = start + 1; i + 1 < words.length && isKey(words[i]); i += 2)
    entry.set(words[i] ?? '', words[i + 1] ?? '');
  const password = entry.get('password');
  if (password === undefined) return undefined;
  return `Basic ${Buffer.from(`${entry.get('login') ?? ''}:${password}`).toString('base64')}`;
}

function isKey(word: string | undefined): boolean {
  return word === 'login' || word === 'password' || word === 'account';
}
