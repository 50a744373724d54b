// The port to one machine of the fleet: run programs there as root. Adapters: ssh-host.ts, local-host.ts; both run
// test/contract/host.contract.ts. What travels through it is argv, stdin and stdout; nothing is interpreted by a shell.
import type { ExecOptions, ExecResult } from './exec.ts';

export type HostRunOptions = Pick<
  ExecOptions,
  'input' | 'timeoutMs' | 'signal' | 'onStdoutLine' | 'onStderrLine' | 'maxOutput'
>;

/** How Nix on this machine reaches the host's store: a store URL, and NIX_SSHOPTS. */
export interface HostStore {
  readonly url: string;
  readonly sshOptions: readonly string[];
}

/** Where else a host answers: after an activation that moved it. */
export interface HostAddress {
  readonly address: string;
  /** Undefined: the port that it had. */
  readonly port: number | undefined;
}

export interface Host extends AsyncDisposable {
  /** The host's name in the fleet. */
  readonly name: string;
  /** The address as a person would type it. */
  readonly address: string;
  /** Undefined: the store of this machine is the host's store. */
  readonly store: HostStore | undefined;
  /**
   * Runs `argv` as root and returns its result whatever the exit code. Exit code 255 is reserved for the connection:
   * its failures are thrown as `host_unreachable`, `host_key_mismatch` or `unauthorized`.
   */
  run(argv: readonly string[], options?: HostRunOptions): Promise<ExecResult>;
  /** Puts a small file there by temporary file and rename; `mode` in octal digits (`0600`). */
  write(path: string, content: Uint8Array | string, mode: string): Promise<void>;
  /**
   * The same host over connections that share nothing with earlier ones: proof that it can still be reached. `at`: there,
   * with the same login and the same host key.
   */
  fresh(at?: HostAddress): Host;
}
