// What all commands share that work on the server's data directory: where it is, and how a value is printed.
import type { Command } from 'commander';
import type { CliIo } from './cli-io.ts';
import { defaultDataDirectory } from './data-directory.ts';

export interface DataOptions {
  readonly data: string;
  readonly json?: boolean;
}

export function withDataOptions(command: Command, io: CliIo): Command {
  return command
    .option('--data <directory>', 'data directory of the server', defaultDataDirectory(io))
    .option('--json', 'print one JSON object');
}

export function printValue<T>(
  io: CliIo,
  options: DataOptions,
  value: T,
  render: (io: CliIo, value: T) => string,
): void {
  io.stdout(options.json === true ? `${JSON.stringify(value)}\n` : render(io, value));
}
