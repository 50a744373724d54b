// Host adapter for the machine we run on: the agent's host. Programs run directly, without a shell; root is whoever
// started us.
import { exec, type ExecResult } from './exec.ts';
import type { Host, HostRunOptions } from './host.ts';
import { writeOnHost } from './write-on-host.ts';

export function openLocalHost(name: string): Host {
  return new LocalHost(name);
}

class LocalHost implements Host {
  readonly name: string;
  readonly address = 'localhost';
  readonly store = undefined;

  constructor(name: string) {
    this.name = name;
  }

  async run(argv: readonly string[], options: HostRunOptions = {}): Promise<ExecResult> {
    return await exec(argv, options);
  }

  async write(path: string, content: Uint8Array | string, mode: string): Promise<void> {
    await writeOnHost(this, path, content, mode);
  }

  fresh(): Host {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // nothing is held open
  }
}
