// Which webhook deliveries were seen: a forge delivers again after a timeout, an attacker replays.
import type { Transaction } from 'kysely';
import type { Schema } from '../storage/schema.ts';

/** GitHub lets a delivery be sent again for three days; older ids need not be known. */
const KEEP_MS = 7 * 86_400_000;

/** Remembers the delivery; false when it was seen before. */
export async function rememberDelivery(
  tx: Transaction<Schema>,
  repository: string,
  delivery: string,
  at: number,
): Promise<boolean> {
  await tx
    .deleteFrom('webhook_delivery')
    .where('received_at', '<', at - KEEP_MS)
    .execute();
  const result = await tx
    .insertInto('webhook_delivery')
    .values({ repository, delivery, received_at: at })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  return Number(result.numInsertedOrUpdatedRows ?? 0) > 0;
}
