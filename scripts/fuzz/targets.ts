// Every parser that reads what somebody else wrote, by name.
import { SlipwayError } from '../../src/util/errors.ts';
import type { FuzzTarget } from './fuzz-target.ts';
import { BINARY_TARGETS } from './binary-targets.ts';
import { JSON_TARGETS } from './json-targets.ts';
import { KEY_TARGETS } from './key-targets.ts';
import { TEXT_TARGETS } from './text-targets.ts';

export const TARGETS: readonly FuzzTarget[] = [
  ...BINARY_TARGETS,
  ...TEXT_TARGETS,
  ...KEY_TARGETS,
  ...JSON_TARGETS,
];

export function findTarget(name: string): FuzzTarget {
  const found = TARGETS.find((target) => target.name === name);
  if (found !== undefined) return found;
  throw new SlipwayError('invalid', `There is no fuzz target called "${name}".`, {
    next: 'npm run fuzz -- --list',
  });
}
