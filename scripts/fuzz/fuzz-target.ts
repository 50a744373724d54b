// What a fuzz target is: a parser, seeds to begin with, and what must hold for whatever bytes it is given.
import { SlipwayError } from '../../src/util/errors.ts';

export interface FuzzTarget {
  readonly name: string;
  /** Well-formed inputs, or nearly so. */
  readonly seeds: () => readonly (Buffer | string)[] | Promise<readonly (Buffer | string)[]>;
  /** Inputs made by structure, a few for each seed number. */
  readonly generate?: (seed: number) => Promise<readonly Buffer[]>;
  /** Words that the format knows. */
  readonly words?: readonly string[];
  /** Inputs are JSON: its values are changed as well as its bytes. */
  readonly json?: boolean;
  /**
   * Parses; may refuse with a SlipwayError. Any other error is a finding, and so is what it throws to say that a round
   * trip does not hold.
   */
  readonly run: (input: Buffer) => void | Promise<void>;
}

/** A property that does not hold. */
export class Broken extends Error {}

export function expect(holds: boolean, what: string): void {
  if (!holds) throw new Broken(what);
}

/** The finding that an error is; `undefined` for a refusal. */
export function findingOf(error: unknown): string | undefined {
  if (error instanceof SlipwayError) return undefined;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Runs one input; returns the finding. */
export async function tryInput(target: FuzzTarget, input: Buffer): Promise<string | undefined> {
  try {
    await target.run(input);
    return undefined;
  } catch (error) {
    return findingOf(error);
  }
}

/** Names the place of a finding, so that the same one is told once. */
export function placeOf(finding: string): string {
  const lines = finding.split('\n');
  const frame = lines.find((line) => /\bat .*\/src\//.test(line));
  const place = /([\w-]+\.ts:\d+)/.exec(frame ?? '')?.[1];
  const [kind = ''] = (lines[0] ?? '').split(':', 1);
  return place === undefined ? (lines[0] ?? '').replaceAll(/\d+/g, 'N') : `${kind} ${place}`;
}
