// How a run ends, as one sentence and one exit code: done, nothing to do (and why), or failed with its cause.
import type { ReleaseManifest } from '../api/manifest.ts';
import { asSlipwayError, SlipwayError } from '../util/errors.ts';
import type { RunResult } from './run-options.ts';
import { ReportedError } from './run-recorder.ts';

/** What the stages came to. Failures are of single hosts; others went on. */
export interface RunEnd {
  readonly kind: 'done' | 'nothing-to-do';
  readonly note: string;
  /** The manifest that stands now, if the run knows one. */
  readonly manifest?: ReleaseManifest | undefined;
  readonly failures: ReadonlyMap<string, SlipwayError>;
}

export function endRun(run: string, end: RunEnd): RunResult {
  const released = end.manifest && { release: end.manifest.commit, serial: end.manifest.serial };
  const [first] = end.failures;
  if (first === undefined) return { run, outcome: end.kind, note: end.note, ...released };
  const error = summarise(end.failures, first);
  return { run, outcome: 'failed', note: end.note, ...released, error };
}

export function failRun(run: string, thrown: unknown): RunResult {
  const error = asSlipwayError(thrown instanceof ReportedError ? thrown.cause : thrown);
  return { run, outcome: 'failed', note: error.message.split('\n', 1)[0] ?? '', error };
}

/** One failure stands for itself; several are counted, and the first decides the code. */
function summarise(
  failures: ReadonlyMap<string, SlipwayError>,
  [host, first]: readonly [string, SlipwayError],
): SlipwayError {
  if (failures.size === 1) return first;
  return new SlipwayError(first.code, `${failures.size} hosts failed; ${host}: ${first.message}`, {
    ...(first.next !== undefined && { next: first.next }),
    cause: first,
    facts: { hosts: Object.fromEntries([...failures].map(([name, error]) => [name, error.code])) },
  });
}
