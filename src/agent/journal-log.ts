// The agent's log: one line an event on stdout. Under systemd each line begins with `<N>`, the syslog priority that
// sd-daemon(3) defines and the journal understands; on a terminal it is plain text.

export interface AgentLog {
  readonly info: (line: string) => void;
  readonly notice: (line: string) => void;
  readonly warn: (line: string) => void;
  readonly error: (line: string) => void;
}

const PRIORITY = { info: 6, notice: 5, warn: 4, error: 3 } as const;
const MAX_LINE = 4_000;

export function makeJournalLog(write: (text: string) => void, prefix: boolean): AgentLog {
  const at = (level: keyof typeof PRIORITY) => (line: string) =>
    write(`${prefix ? `<${PRIORITY[level]}>` : ''}${oneLine(line)}\n`);
  return { info: at('info'), notice: at('notice'), warn: at('warn'), error: at('error') };
}

/** Text from outside must not forge a line of its own. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, ' ').slice(0, MAX_LINE);
}
