// Whether an age file opens for exactly the expected recipients, as far as its header tells: SSH keys by their tag,
// anonymous types by their number. Anything more or less, or of an odd shape, is a fault.
import { parseAgeHeader, type AgeStanza } from '../age/age-header.ts';
import type { AgeRecipient } from '../age/age-recipient.ts';
import { findStanzaFault } from '../age/stanza-shape.ts';
import { messageOf } from '../util/errors.ts';

/** What is wrong, for a person, or undefined. `strangers` names keys worth recognising, by tag (editors). */
export function findRecipientFault(
  file: Uint8Array,
  expected: readonly AgeRecipient[],
  strangers: ReadonlyMap<string, string> = new Map(),
): string | undefined {
  let stanzas: readonly AgeStanza[];
  try {
    ({ stanzas } = parseAgeHeader(file));
  } catch (error) {
    return messageOf(error);
  }
  const odd = stanzas.map(findStanzaFault).find((fault) => fault !== undefined);
  return odd === undefined ? compare(stanzas, expected, strangers) : `It has ${odd}.`;
}

function compare(
  stanzas: readonly AgeStanza[],
  expected: readonly AgeRecipient[],
  strangers: ReadonlyMap<string, string>,
): string | undefined {
  const wanted = count(expected.map((one) => nameOf(one.type, one.tag)));
  const found = count(stanzas.map((one) => nameOf(one.type, one.type.startsWith('ssh-') ? one.args[0] : '')));
  const extra = [...found].filter(([name, number]) => number > (wanted.get(name) ?? 0)).map(([name]) => name);
  const lost = [...wanted].filter(([name, number]) => number > (found.get(name) ?? 0)).map(([name]) => name);
  if (extra.length === 0 && lost.length === 0) return undefined;
  const known = (name: string): string => strangers.get(name.split(' ')[1] ?? '') ?? name;
  const parts = [
    extra.length > 0 ? `It can also be read by ${extra.map(known).join(', ')}.` : '',
    lost.length > 0 ? `It cannot be read by ${lost.map(known).join(', ')}.` : '',
  ];
  return parts.filter((part) => part !== '').join(' ');
}

function nameOf(type: string, tag: string | undefined): string {
  return `${type} ${tag ?? ''}`.trim();
}

function count(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}
