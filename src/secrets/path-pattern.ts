// Patterns for paths of the repository, as in .gitignore's anchored form: `*` and `?` stay within a name, `**` crosses
// folders. No braces, no classes, no negation: a rule about secrets must be readable at a glance. Pure.

/** Whether the whole path fits. `secrets/**` is everything below secrets, `**\/db.age` that name anywhere. */
export function matchesPath(pattern: string, path: string): boolean {
  const source = pattern.replaceAll(/\*\*\/|\*\*|\*|\?|[^*?]+/g, (part) => PARTS.get(part) ?? escape(part));
  return new RegExp(`^${source}$`, 'su').test(path);
}

const PARTS: ReadonlyMap<string, string> = new Map([
  ['**/', '(?:[^/]+/)*'],
  ['**', '.*'],
  ['*', '[^/]*'],
  ['?', '[^/]'],
]);

function escape(text: string): string {
  return text.replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
}
