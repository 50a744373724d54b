// A span of time as a person types it: `90`, `90s`, `15m`, `2h`, `3d`.
import { SlipwayError } from '../util/errors.ts';

const UNIT_SECONDS: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3600, d: 86_400 };

/** Seconds; `invalid` for anything else than a whole number with an optional unit. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([smhd]?)$/.exec(text.trim());
  const unit = match && UNIT_SECONDS[match[2] ?? ''];
  if (match === null || unit === undefined || unit === null) {
    throw new SlipwayError('invalid', `"${text}" is not a span of time.`, {
      next: 'Write it like 90s, 15m, 2h or 3d.',
    });
  }
  return Number(match[1]) * unit;
}
