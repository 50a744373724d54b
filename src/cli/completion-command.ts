// `slipway completion SHELL`: completions made from the commands themselves, so that they cannot go stale.
import { Argument, type Command } from 'commander';
import type { CliIo } from './cli-io.ts';
import type { CommandEntry, RegisterCommand } from './command-entry.ts';

interface Words {
  /** `''` for the program, `ci` for a command, `ci run` for a command below it. */
  readonly trail: string;
  readonly words: readonly Word[];
}

interface Word {
  readonly text: string;
  readonly about: string;
}

/** The completion command for a table of commands. */
export function completionFor(commands: readonly CommandEntry[]): RegisterCommand {
  return (program, io) => registerCompletion(program, io, commands);
}

function registerCompletion(program: Command, io: CliIo, commands: readonly CommandEntry[]): void {
  program
    .command('completion')
    .description('Print completions for a shell')
    .addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']))
    .addHelpText('after', '\nExample:\n  slipway completion bash > /etc/bash_completion.d/slipway')
    .action(async (shell: 'bash' | 'zsh' | 'fish') => {
      const table = await collectWords(program, io, commands);
      io.stdout(shell === 'fish' ? fishScript(table) : bashScript(table, shell === 'zsh'));
    });
}

async function collectWords(
  program: Command,
  io: CliIo,
  commands: readonly CommandEntry[],
): Promise<Words[]> {
  const tree = program.createCommand(program.name());
  for (const entry of commands) (await entry.load())(tree, io);
  return wordsBelow(tree, '');
}

function wordsBelow(command: Command, trail: string): Words[] {
  const names = command.commands.map((sub) => ({ text: sub.name(), about: sub.description() }));
  const options = command.options.flatMap(({ long, description }) =>
    long === undefined ? [] : [{ text: long, about: description }],
  );
  const own = { trail, words: [...names, ...options, { text: '--help', about: 'display help for command' }] };
  return [own, ...command.commands.flatMap((sub) => wordsBelow(sub, `${trail} ${sub.name()}`.trim()))];
}

/** Only the names of commands make the trail: hosts, files and the values of options stand between them as they like. */
function bashScript(table: readonly Words[], zsh: boolean): string {
  const trails = table.filter(({ trail }) => trail !== '').map(({ trail }) => `'${trail}'`);
  const cases = table.map(
    ({ trail, words }) => `    '${trail}') words='${words.map(({ text }) => text).join(' ')}' ;;`,
  );
  return [
    ...(zsh ? ['autoload -U +X bashcompinit && bashcompinit'] : []),
    '_slipway() {',
    '  local trail="" words="" next i',
    '  for ((i = 1; i < COMP_CWORD; i++)); do',
    '    next="${trail:+$trail }${COMP_WORDS[i]}"',
    '    case "$next" in',
    `    ${trails.join('|')}) trail="$next" ;;`,
    '    esac',
    '  done',
    '  case "$trail" in',
    ...cases,
    '  esac',
    '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))',
    '}',
    'complete -o default -F _slipway slipway',
    '',
  ].join('\n');
}

function fishScript(table: readonly Words[]): string {
  const lines = table.flatMap(({ trail, words }) => {
    const depth = trail === '' ? [] : trail.split(' ');
    const condition =
      depth.length === 0
        ? '__fish_use_subcommand'
        : depth.map((word) => `__fish_seen_subcommand_from ${word}`).join('; and ');
    return words.map(({ text, about }) => {
      const what = text.startsWith('--') ? `-l ${text.slice(2)}` : `-a ${text}`;
      return `complete -c slipway -n '${condition}' ${what} -d '${about.replaceAll(/['\\]/g, '\\$&')}'`;
    });
  });
  return `${lines.join('\n')}\n`;
}
