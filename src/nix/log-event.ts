// Events of `--log-format internal-json` (libutil/logging.cc): `@nix {json}` lines on stderr. Activity ids are
// `(pid << 32) + n` and exceed 2^53, so they are kept as their decimal text and never become numbers.

export type LogField = string | number;

export type NixLogEvent =
  | { readonly kind: 'message'; readonly level: number; readonly text: string }
  | {
      readonly kind: 'start';
      readonly id: string;
      /** Absent in Nix 2.8; `'0'` means none. */
      readonly parent?: string;
      readonly level: number;
      readonly type: ActivityType;
      readonly text: string;
      readonly fields: readonly LogField[];
    }
  | { readonly kind: 'stop'; readonly id: string }
  | {
      readonly kind: 'result';
      readonly id: string;
      readonly type: ResultType;
      readonly fields: readonly LogField[];
    }
  /** A line that is no event: builders and old Nix write those in between. */
  | { readonly kind: 'text'; readonly text: string };

const ACTIVITY_TYPES = {
  100: 'copy-path',
  101: 'file-transfer',
  102: 'realise',
  103: 'copy-paths',
  104: 'builds',
  105: 'build',
  106: 'optimise-store',
  107: 'verify-paths',
  108: 'substitute',
  109: 'query-path-info',
  110: 'post-build-hook',
  111: 'build-waiting',
  112: 'fetch-tree',
  113: 'fetch-to-store',
} as const;

const RESULT_TYPES = {
  100: 'file-linked',
  101: 'build-log-line',
  102: 'untrusted-path',
  103: 'corrupted-path',
  104: 'set-phase',
  105: 'progress',
  106: 'set-expected',
  107: 'post-build-log-line',
  108: 'fetch-status',
  109: 'fetch-to-store',
} as const;

/** A name where this table knows the number, else the number. */
export type ActivityType = (typeof ACTIVITY_TYPES)[keyof typeof ACTIVITY_TYPES] | number;
export type ResultType = (typeof RESULT_TYPES)[keyof typeof RESULT_TYPES] | number;

const PREFIX = '@nix ';
const MAX_LINE = 1024 * 1024;

/** Any line of stderr as an event; never throws, what is not understood is text. */
export function parseLogLine(line: string): NixLogEvent {
  if (!line.startsWith(PREFIX) || line.length > MAX_LINE) return { kind: 'text', text: line };
  const event = parseObject(quoteIds(line.slice(PREFIX.length)));
  return (event && toEvent(event)) ?? { kind: 'text', text: line };
}

/**
 * Quotes the numbers of `id` and `parent` before JSON.parse rounds them. Strings are matched first, so that the
 * same characters inside a log line stay what they are.
 */
function quoteIds(json: string): string {
  return json.replaceAll(
    /"(?:id|parent)"\s*:\s*(\d+)|"(?:[^"\\]|\\.)*"/g,
    (whole, digits: string | undefined) =>
      digits === undefined ? whole : `${whole.slice(0, whole.length - digits.length)}"${digits}"`,
  );
}

type JsonObject = Readonly<Record<string, unknown>>;

function parseObject(json: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as JsonObject)
      : undefined;
  } catch {
    return undefined;
  }
}

function toEvent(event: JsonObject): NixLogEvent | undefined {
  const id = text(event['id']);
  switch (event['action']) {
    case 'msg':
      return { kind: 'message', level: number(event['level']), text: text(event['msg']) };
    case 'start':
      return startEvent(event, id);
    case 'stop':
      return { kind: 'stop', id };
    case 'result':
      return {
        kind: 'result',
        id,
        type: named(RESULT_TYPES, event['type']),
        fields: fieldsOf(event['fields']),
      };
    default:
      return undefined;
  }
}

function startEvent(event: JsonObject, id: string): NixLogEvent {
  return {
    kind: 'start',
    id,
    ...(event['parent'] === undefined ? {} : { parent: text(event['parent']) }),
    level: number(event['level']),
    type: named(ACTIVITY_TYPES, event['type']),
    text: text(event['text']),
    fields: fieldsOf(event['fields']),
  };
}

function named<N extends string>(table: Readonly<Record<number, N>>, value: unknown): N | number {
  return table[number(value)] ?? number(value);
}

function fieldsOf(value: unknown): LogField[] {
  if (!Array.isArray(value)) return [];
  return value.filter((field): field is LogField => typeof field === 'string' || typeof field === 'number');
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0;
}
