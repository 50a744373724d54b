// What is asked of one host: which toplevel, how long each step may take, and what counts as healthy.
import type { Hooks } from '../api/deploy-hooks.ts';
import type { HealthConfig, RebootPolicy } from '../api/fleet-config.ts';
import type { HostAddress } from '../effects/host.ts';
import type { ClosureSource } from '../effects/copy-closure.ts';

/** Longest duration of each step, in seconds. */
export interface DeployTimeouts {
  /** Waiting for another deploy, or for nixos-rebuild, to let go of the host. */
  readonly lock: number;
  readonly activation: number;
  readonly confirm: number;
  readonly commit: number;
  readonly rollback: number;
  /** A boot trial's reboot, until the new system has settled. */
  readonly boot: number;
}

export const DEFAULT_TIMEOUTS: DeployTimeouts = {
  lock: 120,
  activation: 240, // deploy-rs' default
  confirm: 30, // deploy-rs' default
  commit: 120,
  rollback: 240,
  boot: 600,
};

export interface ProfileTarget {
  /** Path of the profile's link, or a name that the user's rules place. */
  readonly profile: string;
  /** Whose profile it is; who runs its activation. */
  readonly user: string;
}

export interface DeployRequest {
  readonly toplevel: string;
  /** The release commit, or whatever names this state for people. */
  readonly release: string;
  readonly health: HealthConfig;
  readonly timeouts?: Partial<DeployTimeouts>;
  /** Where the closure comes from; default: pushed from this machine's store. `substitute`: from the host's own caches. */
  readonly source?: ClosureSource | 'push' | 'substitute' | 'push-and-substitute';
  /** False skips the confirmation over a fresh connection. Default true. */
  readonly confirm?: boolean;
  /**
   * Where the new system is to answer when it moves the host: the confirmation is tried there and, unless `only`, at the
   * old address in turn.
   */
  readonly confirmAt?: HostAddress & { readonly only: boolean };
  /** Tries a quarantined toplevel, or one for another host name, all the same. */
  readonly force?: boolean;
  /**
   * `test` runs it until the next boot, `boot` makes it the boot default without running it. Default `trial`, which
   * becomes a `boot-trial` where the system needs a reboot.
   */
  readonly operation?: 'trial' | 'test' | 'boot' | 'boot-trial';
  /** Whether the host may be rebooted for a system that needs it. Default `when-needed`. */
  readonly reboot?: RebootPolicy;
  /** False leaves a system that failed its trial running, uncommitted. Default true. */
  readonly autoRollback?: boolean;
  /** A profile that is not the system's; `toplevel` is then a package with `deploy-rs-activate`. */
  readonly profile?: ProfileTarget;
  /** Commands before and after, on the host and here. */
  readonly hooks?: Hooks;
  /** A rollback: the generation whose number the commit goes back to. */
  readonly generation?: number;
}
