// A line of a build log made safe and readable: colours become classes, every other control sequence is dropped, and
// characters that reorder or hide text are shown by their code. The page sets the result as text, never as HTML.

export interface LogPiece {
  readonly text: string;
  /** Classes for the stylesheet: `ansi-1` … `ansi-7`, `bold`. */
  readonly classes: readonly string[];
}

const ESCAPE = '\u001B';
// What follows an escape: CSI (a final letter may be cut off), OSC and its like (ended by BEL, or by the next escape),
// and two-character sequences.
const SEQUENCE = /^(?:\[([0-?]*)[ -/]*([@-~])?|[\]PX^_][^\p{Cc}]*\p{Cc}?|[ -/]*[0-~]?)/u;
const CONTROL = /[^\P{Cc}\t]/gu;
// Direction marks and overrides, zero-width characters, line and paragraph separators, tags.
const DECEIVING = /[\u061C\u200B-\u200F\u2028-\u202E\u2060-\u2069\uFEFF\u{E0000}-\u{E007F}]/gu;

export function parseLogLine(line: string): LogPiece[] {
  const pieces: LogPiece[] = [];
  const [plain = '', ...rest] = line.split(ESCAPE);
  addPiece(pieces, plain, PLAIN);
  let style: Style = PLAIN;
  for (const part of rest) {
    const [sequence = '', parameters = '', final] = SEQUENCE.exec(part) ?? [];
    if (final === 'm') style = nextStyle(style, parameters);
    addPiece(pieces, part.slice(sequence.length), style);
  }
  return pieces;
}

/** Text from outside as it may be shown on one line. */
export function plainText(line: string): string {
  return parseLogLine(line)
    .map((piece) => piece.text)
    .join('');
}

interface Style {
  readonly bold: boolean;
  /** 0: the usual colour, 1-7 as in ANSI. */
  readonly color: number;
}

const PLAIN: Style = { bold: false, color: 0 };

function addPiece(pieces: LogPiece[], raw: string, style: Style): void {
  const text = afterLastReturn(raw).replaceAll(CONTROL, '').replaceAll(DECEIVING, shownByCode);
  if (text === '') return;
  const color = style.color === 0 ? [] : [`ansi-${style.color}`];
  pieces.push({ text, classes: style.bold ? [...color, 'bold'] : color });
}

/** A progress bar rewrites its line: what counts is what it wrote last. */
function afterLastReturn(text: string): string {
  const trimmed = text.replace(/\r+$/, '');
  return trimmed.slice(trimmed.lastIndexOf('\r') + 1);
}

function shownByCode(character: string): string {
  return `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}⟩`;
}

function nextStyle(style: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map(Number);
  // 38 and 48 begin extended colours, whose numbers must not be taken for codes of their own.
  const extended = codes.findIndex((code) => code === 38 || code === 48);
  return (extended === -1 ? codes : codes.slice(0, extended)).reduce(applyCode, style);
}

function applyCode(style: Style, code: number): Style {
  if (code === 0) return PLAIN;
  if (code === 1) return { ...style, bold: true };
  if (code === 22) return { ...style, bold: false };
  if (code === 39) return { ...style, color: 0 };
  if (code >= 31 && code <= 37) return { ...style, color: code - 30 };
  if (code >= 91 && code <= 97) return { ...style, color: code - 90 };
  return style;
}
