// The one program. A command's module is loaded only when its command is called, so that the agent stays small.
import { Command, CommanderError } from 'commander';
import { processIo, type CliIo } from './cli-io.ts';
import { COMMANDS } from './commands.ts';
import { reportFailure } from './failure.ts';

export async function main(words: readonly string[], io: CliIo): Promise<number> {
  // Only the called command is loaded, so `help COMMAND` has to become a call of it.
  const argv = words[0] === 'help' ? [...words.slice(1), '--help'] : words;
  const program = newProgram(io);
  await registerCommands(program, io, argv);
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    const json = argv.includes('--json');
    if (!(error instanceof CommanderError)) return reportFailure(io, error, json);
    if (error.exitCode === 0) return 0;
    const { reportUsage } = await import('./usage-error.ts'); // the agent has no use for it
    return reportUsage(io, { error, program, argv, json });
  }
}

function newProgram(io: CliIo): Command {
  return new Command('slipway')
    .description('From git push to a running, proven, revertible NixOS fleet.')
    .version('0.1.0')
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({ writeOut: io.stdout, writeErr: io.stderr, outputError: () => undefined })
    .addHelpText(
      'after',
      '\nFirst steps: slipway up --data ./slipway --repository https://forge.example.org/me/fleet.git',
    );
}

/** Registers the called command in full, and the others by name and summary for `--help`. */
async function registerCommands(program: Command, io: CliIo, argv: readonly string[]): Promise<void> {
  const called = argv.find((word) => !word.startsWith('-'));
  for (const command of COMMANDS) {
    if (command.name === called) {
      const register = await command.load();
      register(program, io);
    } else {
      program.command(command.name).description(command.summary).helpOption(false);
    }
  }
  for (const command of program.commands) inheritSettings(command, program);
}

function inheritSettings(command: Command, parent: Command): void {
  command.copyInheritedSettings(parent);
  for (const sub of command.commands) inheritSettings(sub, command);
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), processIo());
