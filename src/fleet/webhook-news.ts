// What a verified webhook delivery tells: a push to a branch, or nothing that concerns us, with the reason.
// Payload shapes: GitHub "push", GitLab "Push Hook", Forgejo/Gitea "push" (the same shape as GitHub's).
import * as z from 'zod/mini';
import { gitCommit } from '../api/manifest.ts';
import { SlipwayError } from '../util/errors.ts';
import type { Forge, WebhookDelivery } from './webhook-signature.ts';

export type WebhookNews =
  | { readonly kind: 'push'; readonly delivery: string; readonly branch: string; readonly commit: string }
  | { readonly kind: 'ignored'; readonly delivery: string; readonly reason: string };

const ZEROES = /^0+$/;
const HEADS = 'refs/heads/';

const pushPayload = z.object({
  ref: z.string().check(z.maxLength(1024)),
  after: gitCommit,
  deleted: z.optional(z.boolean()),
});

/** Reads a delivery that verifyWebhook() let pass. Throws `invalid` for a body that is not the forge's JSON. */
export function parseWebhookNews(delivery: WebhookDelivery): WebhookNews {
  const id = deliveryId(delivery);
  const event = eventName(delivery);
  if (event !== PUSH_EVENT[delivery.forge]) {
    return { kind: 'ignored', delivery: id, reason: `The event "${event}" starts nothing.` };
  }
  return parsePush(parseJson(delivery), id);
}

const PUSH_EVENT: Readonly<Record<Forge, string>> = {
  github: 'push',
  gitlab: 'Push Hook',
  forgejo: 'push',
};

const EVENT_HEADERS: Readonly<Record<Forge, readonly string[]>> = {
  github: ['x-github-event'],
  gitlab: ['x-gitlab-event'],
  forgejo: ['x-forgejo-event', 'x-gitea-event'],
};

/** Ids that stay the same when the forge delivers again. */
const DELIVERY_HEADERS: Readonly<Record<Forge, readonly string[]>> = {
  github: ['x-github-delivery'],
  gitlab: ['webhook-id', 'idempotency-key', 'x-gitlab-event-uuid'],
  forgejo: ['x-forgejo-delivery', 'x-gitea-delivery'],
};

function eventName(delivery: WebhookDelivery): string {
  const name = firstHeader(delivery, EVENT_HEADERS[delivery.forge]);
  if (name !== undefined) return name.slice(0, 64);
  throw new SlipwayError('invalid', 'The webhook delivery does not name its event.', {
    next: `Check that the webhook's kind fits the address /hooks/${delivery.forge}/….`,
  });
}

function deliveryId(delivery: WebhookDelivery): string {
  const id = firstHeader(delivery, DELIVERY_HEADERS[delivery.forge]);
  if (id !== undefined && /^[\w.:-]{1,128}$/.test(id)) return id;
  throw new SlipwayError('invalid', 'The webhook delivery has no usable delivery id.', {
    next: `Check that the webhook's kind fits the address /hooks/${delivery.forge}/….`,
  });
}

function firstHeader(delivery: WebhookDelivery, names: readonly string[]): string | undefined {
  return names.map((name) => delivery.header(name)).find((value) => value !== undefined && value !== '');
}

function parseJson(delivery: WebhookDelivery): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(delivery.body));
  } catch (cause) {
    throw new SlipwayError('invalid', 'The webhook delivery is not JSON.', {
      next: 'Set the content type of the webhook to application/json.',
      cause,
    });
  }
}

function parsePush(payload: unknown, delivery: string): WebhookNews {
  const parsed = pushPayload.safeParse(payload);
  if (!parsed.success) {
    const where = parsed.error.issues.map((issue) => issue.path.join('.')).join(', ');
    throw new SlipwayError('invalid', `The push event lacks what it must have: ${where || 'an object'}.`);
  }
  const { ref, after, deleted } = parsed.data;
  const ignored = (reason: string): WebhookNews => ({ kind: 'ignored', delivery, reason });
  if (!ref.startsWith(HEADS)) return ignored(`${shown(ref)} is not a branch.`);
  const branch = ref.slice(HEADS.length);
  if (deleted === true || ZEROES.test(after)) return ignored(`The branch ${shown(branch)} was deleted.`);
  return { kind: 'push', delivery, branch, commit: after };
}

function shown(name: string): string {
  return JSON.stringify(name.slice(0, 100));
}
