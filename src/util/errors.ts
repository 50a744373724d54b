// The one error class of Slipway. What a caller may see is decided here and only here:
// a closed table maps each code to an HTTP status and to a process exit code.

/**
 * Every code that Slipway can fail with. `http` is the status of a response that carries it, `exit` the exit
 * code of a command that ends with it. Exit codes 10 to 15 tell how a deploy ended; 75 is sysexits' EX_TEMPFAIL,
 * which generated CI workflows allow as "deferred to the target".
 */
export const ERROR_CODES = {
  internal: { http: 500, exit: 1 },
  invalid: { http: 400, exit: 2 },
  not_found: { http: 404, exit: 3 },
  unauthorized: { http: 401, exit: 4 },
  forbidden: { http: 403, exit: 5 },
  conflict: { http: 409, exit: 6 },
  too_large: { http: 413, exit: 7 },
  too_slow: { http: 408, exit: 9 },
  unavailable: { http: 503, exit: 8 },
  timeout: { http: 504, exit: 9 },
  deploy_rolled_back: { http: 409, exit: 10 },
  deploy_rolled_back_unhealthy: { http: 409, exit: 11 },
  deploy_rollback_failed: { http: 409, exit: 12 },
  deploy_refused: { http: 409, exit: 13 },
  host_unreachable: { http: 503, exit: 14 },
  deploy_degraded: { http: 409, exit: 15 },
  host_key_mismatch: { http: 409, exit: 16 },
  hook_failed: { http: 409, exit: 17 },
  nar_invalid: { http: 400, exit: 2 },
  nar_hash_mismatch: { http: 400, exit: 2 },
  narinfo_invalid: { http: 400, exit: 2 },
  signature_invalid: { http: 403, exit: 5 },
  evaluation_failed: { http: 422, exit: 20 },
  build_failed: { http: 422, exit: 21 },
  test_failed: { http: 422, exit: 22 },
  secrets_failed: { http: 422, exit: 23 },
  publish_conflict: { http: 409, exit: 24 },
  repository_unusable: { http: 422, exit: 25 },
  missing_tool: { http: 500, exit: 26 },
  deferred: { http: 409, exit: 75 },
  cancelled: { http: 499, exit: 130 },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface ErrorDetails {
  /** What the person can do about it: one sentence or one command. */
  readonly next?: string;
  readonly cause?: unknown;
  /** Machine-readable facts for `--json`; never a secret. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** A failure with a cause fit for a person (`message`), a code from the table, and the next step. */
export class SlipwayError extends Error {
  readonly code: ErrorCode;
  readonly next: string | undefined;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'SlipwayError';
    this.code = code;
    this.next = details.next;
    this.facts = details.facts ?? {};
  }
}

/** Any thrown value as a SlipwayError; what is not ours becomes `internal` and keeps its cause. */
export function asSlipwayError(error: unknown): SlipwayError {
  if (error instanceof SlipwayError) return error;
  if (isAbort(error)) return new SlipwayError('cancelled', 'The operation was cancelled.', { cause: error });
  return new SlipwayError('internal', messageOf(error), { cause: error });
}

export function isCode(error: unknown, code: ErrorCode): error is SlipwayError {
  return error instanceof SlipwayError && error.code === code;
}

export function httpStatus(error: SlipwayError): number {
  return ERROR_CODES[error.code].http;
}

export function exitCode(error: SlipwayError): number {
  return ERROR_CODES[error.code].exit;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
