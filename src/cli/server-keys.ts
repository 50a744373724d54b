// What the first start of a server makes in <data>/keys, mode 0600 each: the key that signs releases, the identity that
// re-keys secrets, the webhook secret, and the tokens of the administrator, the viewer and the server's own runner.
// What is there already is never touched: a lost key would have to be trusted anew by every host.
import { chmod, mkdir, open, readFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { parseScope } from '../auth/scope.ts';
import { parseToken } from '../auth/token.ts';
import type { TokenRegistry } from '../auth/token-registry.ts';
import { generateSecretKey, parseSecretKey, publicKeyOf } from '../nix/signature.ts';
import { SlipwayError } from '../util/errors.ts';

export interface ServerKeys {
  readonly releaseKeyFile: string;
  /** `name:base64`: agents verify manifests with it. */
  readonly releasePublicKey: string;
  readonly rekeyIdentityFile: string;
  /** `age1…`: secrets on the source branch are encrypted to it as well. */
  readonly rekeyRecipient: string;
  readonly webhookSecretFile: string;
  readonly adminTokenFile: string;
  readonly viewTokenFile: string;
  /** May write to every cache: what the server's own pipeline pushes with. */
  readonly runnerTokenFile: string;
}

/** Finds or makes all keys of the folder. */
export async function ensureServerKeys(folder: string, tokens: TokenRegistry): Promise<ServerKeys> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const file = (name: string): string => join(folder, name);
  const releaseKey = await ensureFile(file('release-signing.key'), () =>
    generateSecretKey('slipway-release-1'),
  );
  const identity = await ensureFile(file('rekey.key'), newAgeIdentity);
  await ensureFile(file('webhook.secret'), () => randomBytes(32).toString('hex'));
  await ensureToken(file('admin.token'), tokens, { name: 'administrator', scope: 'admin' });
  await ensureToken(file('view.token'), tokens, { name: 'status page', scope: 'view' });
  await ensureToken(file('runner.token'), tokens, { name: "this server's pipeline", scope: 'write:*' });
  return {
    releaseKeyFile: file('release-signing.key'),
    releasePublicKey: publicKeyOf(parseSecretKey(releaseKey)),
    rekeyIdentityFile: file('rekey.key'),
    rekeyRecipient: await recipientOf(identity),
    webhookSecretFile: file('webhook.secret'),
    adminTokenFile: file('admin.token'),
    viewTokenFile: file('view.token'),
    runnerTokenFile: file('runner.token'),
  };
}

/** As age-keygen writes it: comments, then the secret. */
async function newAgeIdentity(): Promise<string> {
  const { generateX25519Identity, identityToRecipient } = await import('age-encryption');
  const identity = await generateX25519Identity();
  return `${PUBLIC_KEY_COMMENT}${await identityToRecipient(identity)}\n${identity}`;
}

const PUBLIC_KEY_COMMENT = '# public key: ';

/** From the comment, so that a server does not load all of age; a file without one is asked itself. */
async function recipientOf(file: string): Promise<string> {
  const lines = file.split('\n').map((line) => line.trim());
  const comment = lines.find((line) => line.startsWith(PUBLIC_KEY_COMMENT));
  if (comment !== undefined) return comment.slice(PUBLIC_KEY_COMMENT.length);
  const identity = lines.find((line) => line.startsWith('AGE-SECRET-KEY-'));
  if (identity !== undefined) return await (await import('age-encryption')).identityToRecipient(identity);
  throw new SlipwayError('invalid', 'keys/rekey.key holds no age identity.', {
    next: 'Restore it from a backup; without it no secret can be re-keyed.',
  });
}

/** A token whose row is gone (the database was replaced) is issued anew; a revoked one stays revoked. */
async function ensureToken(
  file: string,
  tokens: TokenRegistry,
  wanted: { readonly name: string; readonly scope: string },
): Promise<void> {
  const held = parseToken((await findText(file)) ?? '');
  const known = held !== undefined && (await tokens.list()).some((token) => token.id === held.id);
  if (known) return;
  const { token } = await tokens.create({ name: wanted.name, scopes: [parseScope(wanted.scope)] });
  await writeSecret(file, token, 'w');
}

async function ensureFile(file: string, make: () => string | Promise<string>): Promise<string> {
  const held = await findText(file);
  if (held !== undefined) return held;
  const made = await make();
  await writeSecret(file, made, 'wx');
  return made;
}

async function findText(file: string): Promise<string | undefined> {
  try {
    await using handle = await open(file, 'r');
    const { mode } = await handle.stat();
    if ((mode & 0o077) !== 0) throw readableByOthers(file);
    return (await readFile(handle, 'utf8')).trim();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeSecret(file: string, text: string, flags: 'w' | 'wx'): Promise<void> {
  await using handle = await open(file, flags, 0o600);
  await handle.writeFile(`${text}\n`);
  await handle.sync();
}

function readableByOthers(file: string): SlipwayError {
  return new SlipwayError('invalid', `${file} can be read by others.`, { next: `chmod 600 ${file}` });
}
