// The hosts' public keys as recipients, and everything that could be wrong with them. Pure.
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { messageOf, SlipwayError } from '../util/errors.ts';
import type { SecretProblem } from './secret-problem.ts';

export interface HostRecipient {
  readonly host: string;
  readonly recipient: AgeRecipient;
}

export interface HostRecipients {
  readonly byHost: ReadonlyMap<string, readonly AgeRecipient[]>;
  readonly problems: readonly SecretProblem[];
}

/** agenix-rekey's placeholder for a host without key: everybody knows how to make its private half. */
const DUMMY_KEY = 'age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq';

/** `keys` holds the key lines of each host that uses secrets. Two keys on one host are a rotation under way. */
export function findHostRecipients(keys: ReadonlyMap<string, readonly string[]>): HostRecipients {
  const byHost = new Map<string, readonly AgeRecipient[]>();
  const problems: SecretProblem[] = [];
  for (const [host, lines] of keys) {
    if (lines.length === 0) problems.push(noKey(host));
    const parsed = lines.map((line) => parseHostKey(host, line));
    problems.push(...parsed.filter((one) => 'code' in one));
    byHost.set(host, unique(parsed.filter((one): one is AgeRecipient => 'fingerprint' in one)));
  }
  return { byHost, problems: [...problems, ...findClashes(byHost)] };
}

function parseHostKey(host: string, line: string): AgeRecipient | SecretProblem {
  try {
    const recipient = parseAgeRecipient(line);
    if (recipient.text !== DUMMY_KEY) return recipient;
    return unusable(host, 'is agenix-rekey’s dummy key, which anyone can read with.');
  } catch (error) {
    const next = error instanceof SlipwayError ? error.next : undefined;
    return { ...unusable(host, `cannot be used: ${messageOf(error)}`), ...(next !== undefined && { next }) };
  }
}

function findClashes(byHost: ReadonlyMap<string, readonly AgeRecipient[]>): SecretProblem[] {
  const all = [...byHost].flatMap(([host, recipients]) =>
    recipients.map((recipient) => ({ host, recipient })),
  );
  const seen = new Map<string, HostRecipient>();
  return all.flatMap((one) => {
    const name = one.recipient.tag ?? one.recipient.fingerprint;
    const other = seen.get(name);
    seen.set(name, other ?? one);
    return other === undefined || sameMachine(other, one) ? [] : [clash(other, one)];
  });
}

/** A user whose secrets the host's own key opens, such as root: nothing that the machine could not read anyway. */
function sameMachine(one: HostRecipient, other: HostRecipient): boolean {
  return one.host.split('@').at(-1) === other.host.split('@').at(-1);
}

function clash(one: HostRecipient, other: HostRecipient): SecretProblem {
  const pair = `${one.host} and ${other.host}`;
  if (one.recipient.text === other.recipient.text) {
    return {
      code: 'host_key_shared',
      host: other.host,
      message: `${pair} have the same key ${one.recipient.fingerprint}: each can read the other’s secrets.`,
      next: 'A cloned machine? Give one a key of its own: rm /etc/ssh/ssh_host_*, then ssh-keygen -A.',
    };
  }
  return {
    code: 'host_key_tag_collision',
    host: other.host,
    message: `The keys of ${pair} have the same 4-byte tag, so age cannot tell their files apart.`,
    next: 'Make a new ssh-ed25519 key on one of them; by chance this happens once in four thousand million pairs.',
  };
}

function unique(recipients: readonly AgeRecipient[]): AgeRecipient[] {
  return [...new Map(recipients.map((recipient) => [recipient.text, recipient])).values()];
}

function noKey(host: string): SecretProblem {
  return {
    code: 'host_key_missing',
    host,
    message: `${host} uses secrets but has no public key to encrypt them to.`,
    next: host.includes('@')
      ? `Set ${settingOf(host)} to the public key that age.identityPaths of this home-manager user names.`
      : `Set ${settingOf(host)} to what "ssh-keyscan -t ed25519 ${host}" shows, after checking it.`,
  };
}

function settingOf(reader: string): string {
  const [user = '', host] = reader.split('@');
  return host === undefined ? `slipway.hosts.${user}.publicKey` : `slipway.hosts.${host}.users.${user}`;
}

function unusable(host: string, why: string): SecretProblem {
  return {
    code: 'host_key_unusable',
    host,
    message: `The public key of ${host} ${why}`,
    next: `Set ${settingOf(host)} to ${host.includes('@') ? '~/.ssh/id_ed25519.pub of that user' : '/etc/ssh/ssh_host_ed25519_key.pub of the host'}.`,
  };
}
