// What Nix says on stderr when an evaluation fails, made short enough for a person: the innermost error with its
// place, without colours, traces of Nix's own and the store path of the source. Nix 2.8 to 2.36 differ in layout only.
import { stripVTControlCharacters } from 'node:util';

const MAX_LINES = 14;

/** The telling part of stderr: `message` is one line, `detail` the lines with the place in the source. */
export function parseNixError(stderr: string): { readonly message: string; readonly detail: string } {
  const lines = stripVTControlCharacters(stderr)
    .split('\n')
    .filter((line) => !/^warning: |^\(use '--show-trace'|^evaluating |^copying |^@nix /.test(line.trim()));
  const start = lines.findLastIndex((line) => /^\s*error:/.test(line));
  const block = (start < 0 ? lines : lines.slice(start)).map((line) => withoutSource(line).trimEnd());
  while (block.at(-1) === '') block.pop();
  const words = block.map((line) => line.trim()).filter((line) => line !== '');
  const first = (words[0] ?? '').replace(/^error:\s*/, '');
  const message = first === '' ? (words[1] ?? 'Nix gave no reason') : first;
  return { message, detail: block.slice(0, MAX_LINES).join('\n').trim() };
}

/** `/nix/store/<hash>-source/modules/x.nix:3:1` as the user knows it: `modules/x.nix:3:1`. */
function withoutSource(line: string): string {
  return line.replaceAll(/\/nix\/store\/[0-9a-z]{32}-source\//g, '').replaceAll(/«git\+file:[^»]*»\/?/g, '');
}
