// The generations of a host's system profile: read from the host, shown like `nixos-rebuild list-generations --json`,
// and the choice of the one to go back to.
import type { Host } from '../effects/host.ts';
import { SlipwayError } from '../util/errors.ts';
import type { ProfileTarget } from './deploy-request.ts';
import { callRunner } from './trial.ts';

/** Field names and meaning as in `nixos-rebuild list-generations --json`; `booted` and `toplevel` are ours. */
export interface Generation {
  readonly generation: number;
  /** `YYYY-MM-DD HH:MM:SS` in the host's time zone. */
  readonly date: string;
  readonly nixosVersion: string;
  readonly kernelVersion: string;
  readonly configurationRevision: string;
  readonly specialisations: readonly string[];
  readonly current: boolean;
  readonly booted: boolean;
  readonly toplevel: string;
}

/** Newest first, as nixos-rebuild lists them; of another profile only number, date and path mean something. */
export async function readGenerations(host: Host, profile?: ProfileTarget): Promise<Generation[]> {
  const asked = profile === undefined ? [] : [profile.profile, profile.user];
  return parseGenerations(await callRunner(host, ['generations', ...asked]));
}

export function parseGenerations(text: string): Generation[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map(parseGeneration).toSorted((a, b) => b.generation - a.generation);
}

function parseGeneration(line: string): Generation {
  const [
    number,
    date = '',
    version = '',
    kernel = '',
    revision = '',
    special = '',
    current,
    booted,
    toplevel = '',
  ] = line.split('\t');
  return {
    generation: Number(number),
    date,
    nixosVersion: version,
    kernelVersion: kernel,
    configurationRevision: revision,
    specialisations: special === '' ? [] : special.split(','),
    current: current === 'yes',
    booted: booted === 'yes',
    toplevel,
  };
}

/** The generation that a rollback goes to: the wanted one, else the newest before the current one that differs from it. */
export function planRollback(host: string, generations: readonly Generation[], wanted?: number): Generation {
  const current = generations.find((generation) => generation.current);
  if (wanted !== undefined) {
    const found = generations.find((generation) => generation.generation === wanted);
    if (found !== undefined) return found;
    throw new SlipwayError('not_found', `${host} has no generation ${wanted}.`, {
      next: listNext(host, generations),
    });
  }
  const before = generations.find(
    ({ generation, toplevel }) =>
      current !== undefined && generation < current.generation && toplevel !== current.toplevel,
  );
  if (before !== undefined) return before;
  throw new SlipwayError('not_found', `${host} has no generation to go back to.`, {
    next: listNext(host, generations),
  });
}

function listNext(host: string, generations: readonly Generation[]): string {
  const numbers = generations.map(({ generation }) => generation).join(', ');
  return `There is ${numbers === '' ? 'none' : numbers}; see: slipway generations ${host}`;
}
