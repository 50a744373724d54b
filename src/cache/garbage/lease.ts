// A lease: at most one holder at a time does a thing, over all processes on one database. Held by renewal, lost by time,
// so a crashed holder leaves nothing to clean up. A holder whose clock was wrong must not hold it for years: nobody takes a
// lease for longer than some minutes, so one that ends much later counts as ended. What is done under a lease must be right without it too: a holder that
// was suspended may go on after its time.
import { randomUUID } from 'node:crypto';
import type { Database } from '../../storage/database.ts';
import { sleep } from '../../util/deadline.ts';
import { SlipwayError } from '../../util/errors.ts';

/** Renewed when half of it has run down: renewing costs a write. */
const LEASE_MS = 120_000;
const LOOK_MS = 250;
/** By how much the clocks of holders may differ. */
const SKEW_MS = 3_600_000;

export interface Lease extends AsyncDisposable {
  /** Renews when it is time to; throws `conflict` when the lease was lost. */
  renew(): Promise<void>;
}

/** As takeLease, but waits for a holder that will soon be done. `conflict` when it takes longer than `patienceMs`. */
export async function waitForLease(database: Database, name: string, patienceMs = LEASE_MS): Promise<Lease> {
  for (const until = performance.now() + patienceMs; ;) {
    const lease = await takeLease(database, name);
    if (lease !== undefined) return lease;
    if (performance.now() > until)
      throw new SlipwayError('conflict', `Another process does not let go of this storage: ${name}.`, {
        next: 'Try again in some minutes.',
      });
    await sleep(LOOK_MS);
  }
}

/** `undefined` when somebody else holds it. */
export async function takeLease(
  database: Database,
  name: string,
  leaseMs = LEASE_MS,
): Promise<Lease | undefined> {
  const holder = randomUUID();
  if (!(await claim(database, { name, holder, leaseMs }))) return undefined;
  let claimedAt = performance.now();
  return {
    renew: async () => {
      if (performance.now() - claimedAt < leaseMs / 2) return;
      if (!(await claim(database, { name, holder, leaseMs })))
        throw new SlipwayError('conflict', `Another process has taken over: ${name}.`);
      claimedAt = performance.now();
    },
    [Symbol.asyncDispose]: async () => {
      await database.write(
        async (transaction) =>
          await transaction
            .deleteFrom('lease')
            .where('name', '=', name)
            .where('holder', '=', holder)
            .execute(),
      );
    },
  };
}

async function claim(
  database: Database,
  { name, holder, leaseMs }: { readonly name: string; readonly holder: string; readonly leaseMs: number },
): Promise<boolean> {
  const now = Date.now();
  const row = { holder, expires_at: now + leaseMs };
  return await database.write(async (transaction) => {
    const taken = await transaction
      .insertInto('lease')
      .values({ name, ...row })
      .onConflict((conflict) =>
        conflict
          .column('name')
          .doUpdateSet(row)
          .where((where) =>
            where.or([
              where('lease.holder', '=', holder),
              where('lease.expires_at', '<', now),
              where('lease.expires_at', '>', now + leaseMs + SKEW_MS),
            ]),
          ),
      )
      .returning('holder')
      .executeTakeFirst();
    return taken?.holder === holder;
  });
}
