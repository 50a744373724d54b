// What the table of commands knows of each: its name, its summary, and how to load the rest.
import type { Command } from 'commander';
import type { CliIo } from './cli-io.ts';

export type RegisterCommand = (program: Command, io: CliIo) => void;

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<RegisterCommand>;
}
