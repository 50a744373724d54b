// The one way in which both Host adapters put a file on their machine: content on stdin, temporary file, rename.
import { SlipwayError } from '../util/errors.ts';
import type { Host } from './host.ts';

const SCRIPT = 'umask 077 && cat >"$1.new" && chmod "$2" "$1.new" && mv -f "$1.new" "$1"';
const WRITE_TIMEOUT_MS = 60_000;

export async function writeOnHost(
  host: Pick<Host, 'run' | 'name'>,
  path: string,
  content: Uint8Array | string,
  mode: string,
): Promise<void> {
  const argv = ['sh', '-c', SCRIPT, 'write', path, mode];
  const result = await host.run(argv, { input: content, timeoutMs: WRITE_TIMEOUT_MS });
  if (result.code === 0) return;
  throw new SlipwayError('internal', `${path} could not be written on ${host.name}: ${result.stderr.trim()}`);
}
