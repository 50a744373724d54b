// A call that the command line does not know, told like every other failure: one message, the next step, JSON on request.
import type { Command, CommanderError } from 'commander';
import { ERROR_CODES, SlipwayError } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import { reportFailure } from './failure.ts';

export interface UsageError {
  readonly error: CommanderError;
  readonly program: Command;
  readonly argv: readonly string[];
  readonly json: boolean;
}

/** Prints what was wrong with the call and returns the exit code. */
export function reportUsage(io: CliIo, { error, program, argv, json }: UsageError): number {
  const called = calledCommand(program, argv);
  const help = `"${called} --help" shows the options and an example.`;
  if (error.code === 'commander.help') {
    // A group of commands without a command: its help has been printed to stderr already.
    if (!json) return ERROR_CODES.invalid.exit;
    return reportFailure(io, new SlipwayError('invalid', `${called} needs a command.`, { next: help }), json);
  }
  const { message, hint } = parseUsageMessage(error.message);
  return reportFailure(io, new SlipwayError('invalid', message, { next: hint ?? help }), json);
}

/** `error: unknown command 'x'` and a line `(Did you mean y?)` as a sentence and a hint. */
export function parseUsageMessage(text: string): { readonly message: string; readonly hint?: string } {
  const [first = '', second = ''] = text.replace(/^error: /, '').split('\n');
  const sentence = first.charAt(0).toUpperCase() + first.slice(1);
  const message = /[.?!]$/.test(sentence) ? sentence : `${sentence}.`;
  const hint = /^\((.*)\)$/.exec(second)?.[1];
  return hint === undefined ? { message } : { message, hint };
}

/** `slipway agent sync` for argv that begins so, as far as there are such commands. */
function calledCommand(program: Command, argv: readonly string[]): string {
  let command = program;
  const names = [program.name()];
  for (const word of argv.filter((one) => !one.startsWith('-'))) {
    const next = command.commands.find((one) => one.name() === word);
    if (next === undefined) break;
    names.push(word);
    command = next;
  }
  return names.join(' ');
}
