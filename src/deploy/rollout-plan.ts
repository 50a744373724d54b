// In which waves hosts are tried, and when a rollout stops. Pure.
import { createHash } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';
import { findNearest } from '../util/nearest.ts';

export interface RolloutMember {
  readonly name: string;
  readonly tags: readonly string[];
  /** The wave that the fleet's configuration puts it in. */
  readonly wave: number;
}

/** A number of hosts, or a share of them. */
export type Amount = { readonly count: number } | { readonly percent: number };

/** One wave: hosts of a tag, one host by name, or so many hosts altogether. */
export type WaveStep = { readonly tag: string } | { readonly host: string } | Amount;

/** `3`, `10%`. */
export function parseAmount(text: string, option: string): Amount {
  const match = /^(\d{1,6})(%?)$/.exec(text);
  const value = Number(match?.[1]);
  if (match !== null && (match[2] === '' || value <= 100))
    return match[2] === '' ? { count: value } : { percent: value };
  throw new SlipwayError('invalid', `${option} needs a number of hosts or a share, not "${text}".`, {
    next: `Write it as ${option} 3 or ${option} 10%.`,
  });
}

/** `tag:canary,web1,10%,50%`: what is left is the last wave. */
export function parseWaves(text: string): WaveStep[] {
  return text.split(',').map((word) => {
    if (word.startsWith('tag:')) return { tag: word.slice(4) };
    return /^\d/.test(word) ? parseAmount(word, '--waves') : { host: word };
  });
}

/** How many of `total` that is; a share that is not nothing is at least one host. */
export function amountOf(amount: Amount, total: number): number {
  if ('count' in amount) return amount.count;
  return amount.percent === 0 ? 0 : Math.max(1, Math.floor((total * amount.percent) / 100));
}

/**
 * The waves, without empty ones. Without steps they are the configuration's. An amount counts from the beginning: after
 * `10%,50%` half of the hosts have been tried. Which hosts those are follows from `seed`: the same for a repeated
 * rollout, others for the next one.
 */
export function planRollout(
  members: readonly RolloutMember[],
  steps: readonly WaveStep[],
  seed: string,
): string[][] {
  if (steps.length === 0) return configuredWaves(members);
  const left = new Map(members.map((member) => [member.name, member]));
  const waves = steps.map((step) => {
    const chosen = chooseStep(step, members, left, seed);
    for (const name of chosen) left.delete(name);
    return chosen;
  });
  return [...waves, [...left.keys()]].filter((wave) => wave.length > 0);
}

function configuredWaves(members: readonly RolloutMember[]): string[][] {
  const waves = new Map<number, string[]>();
  for (const { name, wave } of members) waves.set(wave, [...(waves.get(wave) ?? []), name]);
  return [...waves].toSorted(([a], [b]) => a - b).map(([, names]) => names);
}

function chooseStep(
  step: WaveStep,
  members: readonly RolloutMember[],
  left: ReadonlyMap<string, RolloutMember>,
  seed: string,
): string[] {
  const rest = [...left.values()];
  if ('tag' in step) return rest.filter(({ tags }) => tags.includes(step.tag)).map(({ name }) => name);
  if ('host' in step) return rest.filter(({ name }) => name === step.host).map(({ name }) => name);
  const tried = members.length - left.size;
  const shuffled = rest.map(({ name }) => name).toSorted(bySeed(seed));
  const wanted = new Set(shuffled.slice(0, Math.max(0, amountOf(step, members.length) - tried)));
  return rest.filter(({ name }) => wanted.has(name)).map(({ name }) => name);
}

function bySeed(seed: string): (a: string, b: string) => number {
  const rank = (name: string): string => createHash('sha256').update(`${name}\0${seed}`).digest('hex');
  return (a, b) => (rank(a) < rank(b) ? -1 : 1);
}

/** The members that a list such as `tag:web,pi1` means, in the fleet's order; words that mean nobody are an error. */
export function selectMembers<M extends Omit<RolloutMember, 'wave'>>(
  members: readonly M[],
  text: string,
): M[] {
  const words = text.split(',').map((word) => word.trim());
  for (const word of words) assertMeansSomebody(word, members);
  return members.filter((member) => words.some((word) => isMeant(word, member)));
}

function isMeant(word: string, { name, tags }: Omit<RolloutMember, 'wave'>): boolean {
  return word.startsWith('tag:') ? tags.includes(word.slice(4)) : name === word;
}

function assertMeansSomebody(word: string, members: readonly Omit<RolloutMember, 'wave'>[]): void {
  if (members.some((member) => isMeant(word, member))) return;
  const tags = [...new Set(members.flatMap((member) => member.tags))].toSorted();
  const names = members.map(({ name }) => name);
  const known = word.startsWith('tag:') ? tags.map((tag) => `tag:${tag}`) : names;
  const near = findNearest(word, known);
  const what = word.startsWith('tag:') ? `host with tag ${word.slice(4)}` : `host ${word}`;
  throw new SlipwayError(
    'not_found',
    `The flake has no ${what}.${near === undefined ? '' : ` Did you mean ${near}?`}`,
    {
      next: `There are: ${known.join(', ') || 'none'}.`,
    },
  );
}
