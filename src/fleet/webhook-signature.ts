// Whether a webhook delivery comes from the forge that it names: pure checks over the raw body, in constant time.
// GitHub: X-Hub-Signature-256. GitLab: Standard Webhooks headers (signing token) or X-Gitlab-Token (the secret itself).
// Forgejo and Gitea: bare hex HMAC-SHA256; where Forgejo's header is there, Gitea's is not looked at.
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { SlipwayError } from '../util/errors.ts';

export const FORGES = ['github', 'gitlab', 'forgejo'] as const;
export type Forge = (typeof FORGES)[number];

export interface WebhookDelivery {
  readonly forge: Forge;
  /** Reads a request header by its lower-case name. */
  readonly header: (name: string) => string | undefined;
  /** The body exactly as it arrived. */
  readonly body: Uint8Array;
}

/** Standard Webhooks: a delivery whose timestamp is further away than this is a replay. */
const MAX_SKEW_SECONDS = 300;

/**
 * Throws unless one of `secrets` (several while a secret is being rotated) made the delivery's signature:
 * `unauthorized` when there is none to check, `signature_invalid` when it does not hold. `now` in ms.
 */
export function verifyWebhook(delivery: WebhookDelivery, secrets: readonly string[], now: number): void {
  const usable = secrets.filter((secret) => secret !== '');
  if (usable.length === 0) throw noSecret();
  const holds = CHECKS[delivery.forge](delivery, now);
  if (!usable.some((secret) => holds(secret))) throw wrongSignature(delivery.forge);
}

type Check = (delivery: WebhookDelivery, now: number) => (secret: string) => boolean;

const CHECKS: Readonly<Record<Forge, Check>> = {
  github: checkGithub,
  gitlab: checkGitlab,
  forgejo: checkForgejo,
};

function checkGithub(delivery: WebhookDelivery): (secret: string) => boolean {
  const given = required(delivery, 'x-hub-signature-256', 'github');
  return (secret) => sameText(given, `sha256=${hmac(secret, [delivery.body]).toString('hex')}`);
}

function checkForgejo(delivery: WebhookDelivery): (secret: string) => boolean {
  const given = delivery.header('x-forgejo-signature') ?? required(delivery, 'x-gitea-signature', 'forgejo');
  return (secret) => sameText(given, hmac(secret, [delivery.body]).toString('hex'));
}

/** A signed delivery must pass as a signed one: it never falls back to the token. */
function checkGitlab(delivery: WebhookDelivery, now: number): (secret: string) => boolean {
  if (delivery.header('webhook-signature') !== undefined) return checkStandardWebhook(delivery, now);
  const given = required(delivery, 'x-gitlab-token', 'gitlab');
  return (secret) => sameText(given, secret);
}

/** https://www.standardwebhooks.com: `v1,<base64>` over `id.timestamp.body`; several signatures stand side by side. */
function checkStandardWebhook(delivery: WebhookDelivery, now: number): (secret: string) => boolean {
  const id = required(delivery, 'webhook-id', 'gitlab');
  const timestamp = required(delivery, 'webhook-timestamp', 'gitlab');
  const given = required(delivery, 'webhook-signature', 'gitlab').split(' ');
  assertFresh(timestamp, now);
  return (secret) => {
    const mac = hmac(standardKey(secret), [Buffer.from(`${id}.${timestamp}.`), delivery.body]);
    return given.some((one) => sameText(one, `v1,${mac.toString('base64')}`));
  };
}

function assertFresh(timestamp: string, now: number): void {
  const seconds = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) : Number.NaN;
  if (Math.abs(now / 1000 - seconds) <= MAX_SKEW_SECONDS) return;
  throw new SlipwayError('signature_invalid', 'The webhook delivery is too old or from the future.', {
    next: "Compare the clocks of the forge and of this server; a delivery's time may differ by 5 minutes.",
  });
}

/** GitLab shows signing tokens as `whsec_<base64>`; the key is what the base64 stands for. */
function standardKey(secret: string): Buffer {
  return secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret);
}

function hmac(key: string | Buffer, parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac('sha256', key);
  for (const part of parts) mac.update(part);
  return mac.digest();
}

/** Constant time whatever the lengths: the digests are compared, not the texts. */
function sameText(a: string, b: string): boolean {
  return timingSafeEqual(digest(a), digest(b));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

const SETTING: Readonly<Record<Forge, string>> = {
  github: 'Set the same secret in the webhook (Settings, Webhooks, Secret) and in webhookSecret.',
  gitlab: 'Set the same token in the webhook (signing token, or secret token) and in webhookSecret.',
  forgejo: 'Set the same secret in the webhook (Settings, Webhooks, Secret) and in webhookSecret.',
};

function required(delivery: WebhookDelivery, name: string, forge: Forge): string {
  const value = delivery.header(name);
  if (value !== undefined && value !== '') return value;
  throw new SlipwayError('unauthorized', `The webhook delivery carries no ${name} header.`, {
    next: SETTING[forge],
  });
}

function wrongSignature(forge: Forge): SlipwayError {
  return new SlipwayError('signature_invalid', 'The webhook delivery is not signed with the known secret.', {
    next: SETTING[forge],
  });
}

function noSecret(): SlipwayError {
  return new SlipwayError('forbidden', 'No webhook secret is configured for this repository.', {
    next: 'Set webhookSecret for the repository in the configuration, for example "file:/etc/slipway/webhook".',
  });
}
