// Hooks of deploys in the flake's `slipway` output: commands that run before anything changes on a host, or after its
// deploy has ended; on the host itself, or on the machine that deploys.
import * as z from 'zod/mini';

const common = {
  name: z.string().check(z.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$/, 'not a hook name')),
  /** One line for `sh -c`; what is longer belongs into a package. */
  command: z.string().check(z.regex(/^[^\n\r]+$/, 'one line')),
  /** Seconds after which it counts as failed. */
  timeout: z._default(z.int().check(z.minimum(1), z.maximum(14_400)), 300),
};

/** Where a hook runs: `host`, as root under systemd; `controller`, as whoever deploys. */
const place = z.enum(['host', 'controller']);
export type HookPlace = z.infer<typeof place>;

function hooksOf(usual: HookPlace) {
  const on = z._default(place, usual);
  const after = {
    /** Which end it is for: `committed` (also a system kept on request), `failed` (any other), or `always`. */
    only: z._default(z.enum(['always', 'committed', 'failed']), 'always'),
  };
  return z.strictObject({
    before: z._default(z.array(z.strictObject({ ...common, on })), []),
    after: z._default(z.array(z.strictObject({ ...common, on, ...after })), []),
  });
}

/** Of one host. */
export const hostHooks = hooksOf('host');
/** Of all: on the controller once a rollout, on the host for each host. */
export const fleetHooks = hooksOf('controller');

export type Hooks = z.infer<typeof hostHooks>;
export type Hook = Hooks['before'][number];
export type AfterHook = Hooks['after'][number];

export const NO_HOOKS: Hooks = { before: [], after: [] };

/** What became of one hook; exit -1: it did not end in time, or was not run to its end. */
export const hookResult = z.object({
  name: z.string(),
  when: z.enum(['before', 'after']),
  exit: z.int(),
});
export type HookResult = z.infer<typeof hookResult>;
