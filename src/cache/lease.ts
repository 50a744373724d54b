// A lease: at most one holder at a time does a thing, over all processes on one database. Held by renewal, lost by time,
// so a crashed holder leaves nothing to clean up. What is done under a lease must be right without it too: a holder that
// was suspended may go on after its time.
import { randomUUID } from 'node:crypto';
import type { Database } from '../storage/database.ts';
import { SlipwayError } from '../util/errors.ts';

const LEASE_MS = 120_000;
/** How far the lease may run down before it is renewed: renewing costs a write. */
const RENEW_MS = 60_000;

export interface Lease extends AsyncDisposable {
  /** Renews when it is time to; throws `conflict` when the lease was lost. */
  renew(): Promise<void>;
}

/** `undefined` when somebody else holds it. */
export async function takeLease(database: Database, name: string): Promise<Lease | undefined> {
  const holder = randomUUID();
  if (!(await claim(database, name, holder))) return undefined;
  let claimedAt = Date.now();
  return {
    renew: async () => {
      if (Date.now() - claimedAt < LEASE_MS - RENEW_MS) return;
      if (!(await claim(database, name, holder)))
        throw new SlipwayError('conflict', `Another process has taken over: ${name}.`);
      claimedAt = Date.now();
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

async function claim(database: Database, name: string, holder: string): Promise<boolean> {
  const now = Date.now();
  const row = { holder, expires_at: now + LEASE_MS };
  return await database.write(async (transaction) => {
    const taken = await transaction
      .insertInto('lease')
      .values({ name, ...row })
      .onConflict((conflict) =>
        conflict
          .column('name')
          .doUpdateSet(row)
          .where((where) =>
            where.or([where('lease.holder', '=', holder), where('lease.expires_at', '<', now)]),
          ),
      )
      .returning('holder')
      .executeTakeFirst();
    return taken?.holder === holder;
  });
}
