// What switch-to-configuration would do to units, read from the words of `dry-activate` (NixOS' Perl and Rust versions
// say the same). Pure.

export interface UnitDiff {
  readonly stop: readonly string[];
  readonly start: readonly string[];
  readonly restart: readonly string[];
  readonly reload: readonly string[];
  /** Changed, but not to be touched (`stopIfChanged`, `restartIfChanged`). */
  readonly untouched: readonly string[];
}

const LISTS: readonly [RegExp, keyof UnitDiff][] = [
  [/^would NOT (?:stop|restart) the following changed (?:user )?units: (.*)$/, 'untouched'],
  [/^would stop the following (?:user )?units: (.*)$/, 'stop'],
  [/^would start the following (?:user )?units: (.*)$/, 'start'],
  [/^would restart the following (?:user )?units: (.*)$/, 'restart'],
  [/^would reload the following (?:user )?units: (.*)$/, 'reload'],
];

/** Unknown lines are ignored. What is stopped and started again is a restart. */
export function parseDryActivate(text: string): UnitDiff {
  const found: Record<keyof UnitDiff, Set<string>> = {
    stop: new Set(),
    start: new Set(),
    restart: new Set(),
    reload: new Set(),
    untouched: new Set(),
  };
  for (const line of text.split('\n')) {
    for (const [pattern, kind] of LISTS) {
      const units = pattern.exec(line.trim())?.[1];
      for (const unit of units?.split(', ') ?? []) found[kind].add(unit.trim());
    }
  }
  for (const unit of found.stop) {
    if (!found.start.delete(unit)) continue;
    found.stop.delete(unit);
    found.restart.add(unit);
  }
  const sorted = (kind: keyof UnitDiff): string[] => [...found[kind]].filter(Boolean).toSorted();
  return {
    stop: sorted('stop'),
    start: sorted('start'),
    restart: sorted('restart'),
    reload: sorted('reload'),
    untouched: sorted('untouched'),
  };
}
