// A thread that runs SQL statements on a connection of its own, one after another in lockstep: each message asks for one
// statement, each gets one reply. It closes the connection when it is told to, and ends.
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../util/errors.ts';
import { openConnection, StatementCache, stopWaiting } from './sqlite-connection.ts';

export type StatementRequest =
  | { readonly kind: 'run'; readonly sql: string; readonly parameters: readonly unknown[] }
  | { readonly kind: 'close' };

export type StatementReply =
  | { readonly kind: 'rows'; readonly rows: unknown[] }
  | { readonly kind: 'done'; readonly changes: number | bigint; readonly lastInsertRowid: number | bigint }
  /** `errcode`: SQLite's, when it was SQLite that failed. */
  | { readonly kind: 'failed'; readonly why: string; readonly errcode: number | undefined };

const connection = openConnection(workerData as string, false);
stopWaiting(connection);
const statements = new StatementCache(connection);

parentPort?.on('message', (request: StatementRequest) => {
  if (request.kind === 'close') return close();
  parentPort?.postMessage(answer(request.sql, request.parameters), []);
});

function answer(sql: string, parameters: readonly unknown[]): StatementReply {
  try {
    const statement = statements.prepare(sql);
    if (statement.reader) return { kind: 'rows', rows: statement.all(parameters) };
    return { kind: 'done', ...statement.run(parameters) };
  } catch (error) {
    const errcode = error instanceof Error && 'errcode' in error ? Number(error.errcode) : undefined;
    return { kind: 'failed', why: messageOf(error), errcode };
  }
}

/** What is in the log goes into the file, so that a quiet server leaves nothing for the next one to do. */
function close(): void {
  try {
    connection.exec('pragma wal_checkpoint(truncate)');
  } finally {
    statements.close();
    parentPort?.close();
  }
}
