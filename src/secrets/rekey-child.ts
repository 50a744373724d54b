// The only program that holds the re-key identity and plaintexts, for seconds: identity from descriptor 3, a request
// on stdin, the reply on stdout. It gets no environment and no arguments, may write no file and start no process.
// Nothing of a key or plaintext is ever in what it prints; plaintext lives in Buffers that are filled with zeros.
import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { parseAgeIdentities, type AgeIdentity } from '../age/age-identity.ts';
import { parseAgeRecipient, type AgeRecipient } from '../age/age-recipient.ts';
import { decryptWith } from '../age/decrypt-with.ts';
import { encryptTo } from '../age/encrypt-to.ts';
import { asSlipwayError } from '../util/errors.ts';
import {
  formatRekeyMessage,
  parseRekeyMessage,
  type CannotReadReply,
  type CannotReadRequest,
  type IdentityRefused,
  type JobFailure,
  type JobResult,
  type RekeyJob,
  type RekeyMessage,
  type RekeyReply,
  type RekeyRequest,
} from './rekey-message.ts';

type Reply = RekeyMessage<RekeyReply | CannotReadReply | IdentityRefused>;

interface Workshop {
  readonly identities: readonly AgeIdentity[];
  readonly recipients: readonly AgeRecipient[];
  readonly macKey: Buffer;
}

interface JobOutcome {
  readonly result: JobResult;
  readonly file?: Buffer;
}

const IDENTITY_DESCRIPTOR = 3;

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);
await main();

async function main(): Promise<void> {
  const secret = await readDescriptor(IDENTITY_DESCRIPTOR);
  const request = parseRekeyMessage<RekeyRequest | CannotReadRequest>(await readDescriptor(0));
  const reply = formatRekeyMessage(await answer(secret, request));
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(reply, (error) => (error ? reject(error) : resolve()));
  });
}

async function answer(
  secret: Buffer,
  request: RekeyMessage<RekeyRequest | CannotReadRequest>,
): Promise<Reply> {
  const identities = await openIdentities(secret);
  if ('refused' in identities) return { head: identities, blobs: [] };
  const { head, blobs } = request;
  if (head.task === 'cannot-read') return await answerCannotRead(identities, head, blobs);
  return await answerRekey(identities, head, blobs);
}

async function openIdentities(secret: Buffer): Promise<readonly AgeIdentity[] | IdentityRefused> {
  try {
    return await parseAgeIdentities(secret);
  } catch (error) {
    const { message, next } = asSlipwayError(error);
    return { version: 1, refused: message, ...(next !== undefined && { next }) };
  } finally {
    secret.fill(0);
  }
}

async function answerCannotRead(
  identities: readonly AgeIdentity[],
  head: CannotReadRequest,
  blobs: readonly Buffer[],
): Promise<Reply> {
  const readable: string[] = [];
  for (const [index, path] of head.paths.entries()) {
    if (await canRead(identities, blobs[index] ?? Buffer.alloc(0))) readable.push(path);
  }
  return { head: { version: 1, readable }, blobs: [] };
}

async function answerRekey(
  identities: readonly AgeIdentity[],
  head: RekeyRequest,
  blobs: readonly Buffer[],
): Promise<Reply> {
  const recipients = head.recipients.map(parseAgeRecipient);
  const opened = head.hasMacKey ? await openMacKey(identities, blobs[head.jobs.length]) : undefined;
  const workshop: Workshop = { identities, recipients, macKey: opened ?? randomBytes(32) };
  const outcomes: JobOutcome[] = [];
  for (const [index, job] of head.jobs.entries()) {
    outcomes.push(await rekey(workshop, job, blobs[index] ?? Buffer.alloc(0)));
  }
  const newMacKey = opened === undefined || head.rewrapMacKey;
  const readers = macKeyReaders(workshop, head);
  const macKeyFile = newMacKey ? [await encryptTo(readers, workshop.macKey, { armor: true })] : [];
  const macKeyId = createHash('sha256').update('slipway-mac-key-v1\0').update(workshop.macKey).digest('hex');
  workshop.macKey.fill(0);
  return {
    head: {
      version: 1,
      results: outcomes.map((outcome) => outcome.result),
      rekeyers: readers.map((reader) => reader.fingerprint).toSorted(),
      newMacKey,
      macKeyId,
      macKeyLost: head.hasMacKey && opened === undefined,
    },
    blobs: [...outcomes.flatMap((outcome) => outcome.file ?? []), ...macKeyFile],
  };
}

async function rekey(workshop: Workshop, job: RekeyJob, source: Buffer): Promise<JobOutcome> {
  const opened = await decryptWith(workshop.identities, source);
  if (opened.kind !== 'plaintext') return failed(opened.kind === 'no_match' ? 'undecryptable' : opened.kind);
  const { plaintext } = opened;
  try {
    // agenix cannot install an empty secret: age writes no file for it, and the host loses what it had
    if (plaintext.length === 0) return failed('empty');
    const mac = plaintextMac(workshop.macKey, job.path, plaintext);
    if (mac === job.previousMac) return { result: { outcome: 'same', mac } };
    return await encryptForHosts(workshop, job, plaintext, mac);
  } finally {
    plaintext.fill(0);
  }
}

/** The new file, after a try to open it with the identity: it must fail unless the identity is a recipient. */
async function encryptForHosts(
  workshop: Workshop,
  job: RekeyJob,
  plaintext: Buffer,
  mac: string,
): Promise<JobOutcome> {
  const readers = job.recipients.flatMap((index) => workshop.recipients[index] ?? []);
  const file = await encryptTo(readers, plaintext, { armor: job.armored });
  const listed = workshop.identities.some((one) =>
    readers.some((reader) => reader.text === one.recipient.text),
  );
  if (!listed && (await canRead(workshop.identities, file))) return failed('readable');
  return { result: { outcome: 'rekeyed', mac }, file };
}

async function canRead(identities: readonly AgeIdentity[], file: Buffer): Promise<boolean> {
  const outcome = await decryptWith(identities, file);
  if (outcome.kind === 'plaintext') outcome.plaintext.fill(0);
  return outcome.kind === 'plaintext';
}

async function openMacKey(
  identities: readonly AgeIdentity[],
  file: Buffer | undefined,
): Promise<Buffer | undefined> {
  const outcome = await decryptWith(identities, file ?? Buffer.alloc(0));
  return outcome.kind === 'plaintext' && outcome.plaintext.length === 32 ? outcome.plaintext : undefined;
}

function macKeyReaders(workshop: Workshop, head: RekeyRequest): readonly AgeRecipient[] {
  const configured = head.rekeyers.flatMap((index) => workshop.recipients[index] ?? []);
  const own = workshop.identities.map((identity) => identity.recipient);
  return configured.length > 0 ? configured : own;
}

/** The path is part of the input, so that equal values in two places do not show. */
function plaintextMac(key: Buffer, path: string, plaintext: Buffer): string {
  return createHmac('sha256', key).update(`slipway-plain-v1\0${path}\0`).update(plaintext).digest('hex');
}

function failed(failure: JobFailure): JobOutcome {
  return { result: { outcome: 'failed', failure } };
}

async function readDescriptor(fd: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of createReadStream('', { fd, autoClose: false })) chunks.push(chunk as Buffer);
  const whole = Buffer.concat(chunks);
  if (fd === IDENTITY_DESCRIPTOR) for (const chunk of chunks) chunk.fill(0);
  return whole;
}

/** An unforeseen failure: its kind, never its message or stack, which could quote what it stumbled over. */
function fail(error: unknown): void {
  process.stderr.write(`re-key process: ${error instanceof Error ? error.name : 'failure'}\n`);
  process.exit(70);
}
