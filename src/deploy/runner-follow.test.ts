// The runner's event log has one writer and many readers, and a line reaches the disk in pieces. A reader that lost
// such a line would never confirm its trial.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const RUNNER = readFileSync(path.join(import.meta.dirname, '../../host/activate.sh'), 'utf8');

function functionText(name: string): string {
  const found = new RegExp(`^${name}\\(\\) \\{\\n[\\s\\S]*?^\\}\\n`, 'm').exec(RUNNER);
  assert.ok(found, name);
  return found[0];
}

const SCRIPT = `
file=$(mktemp)
exec 3<"$file" 4<"$file"
STATE_PART='' LOG_PART=''
${functionText('follow_events')}
${functionText('follow_log')}
look() { follow_events; follow_log; }
printf '{"phase":' >>"$file"; look
printf '"TRIAL"}' >>"$file"; look
printf '\\n{"pha' >>"$file"; look; look
printf 'se":"AWAIT_CONFIRM"}\\n' >>"$file"; look
rm "$file"
`;

test('the runner tells a line that was read in pieces once and whole', () => {
  const output = execFileSync('sh', ['-c', SCRIPT]).toString().trim().split('\n');
  const lines = ['{"phase":"TRIAL"}', '{"phase":"AWAIT_CONFIRM"}'];
  assert.deepEqual(
    output,
    lines.flatMap((line) => [`state ${line}`, `log ${line}`]),
  );
});
