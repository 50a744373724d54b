// Tells PostgreSQL's failures apart: what it answered (SQLSTATE, appendix A of its manual) and a connection that is gone.

/** Errors of sockets and name servers as Node names them. */
const SOCKET_CODES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOENT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EAI_AGAIN',
]);
/** pg has no codes of its own for these. */
const LOST =
  /Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect/;

/** The five characters that PostgreSQL answered with. */
export function sqlState(error: unknown): string | undefined {
  const code = codeOf(error);
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) && !SOCKET_CODES.has(code) ? code : undefined;
}

/** The server restarts, is not up yet, or the network is cut: the same may succeed a moment later. */
export function isLostConnection(error: unknown): boolean {
  const state = sqlState(error);
  // 57P01 to 57P03: it shuts down, crashed, or starts up; class 08: the connection itself; 53300: no slot is free.
  if (state !== undefined) return /^(57P0[123]|08...|53300)$/.test(state);
  const code = codeOf(error);
  if (code !== undefined && SOCKET_CODES.has(code)) return true;
  return error instanceof Error && LOST.test(error.message);
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
