// The table of commands: name, summary, and where the command lives. One line a command, in the order of `--help`.
import type { Command } from 'commander';
import type { CliIo } from './cli-io.ts';

type Register = (program: Command, io: CliIo) => void;

export interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<Register>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'agent',
    summary: 'Bring releases to this host: poll, verify, try, keep or roll back',
    load: async () => (await import('./agent-command.ts')).registerAgent,
  },
  {
    name: 'doctor',
    summary: 'Check what this machine has of what Slipway needs',
    load: async () => (await import('./doctor-command.ts')).registerDoctor,
  },
  {
    name: 'completion',
    summary: 'Print completions for a shell',
    load: async () => (await import('./completion-command.ts')).registerCompletion,
  },
];
