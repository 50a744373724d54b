// What goes between Slipway and the re-key child: one JSON head and a run of byte strings each way, over pipes.
// Ciphertext and public keys only; the identity comes by a descriptor of its own, plaintext never crosses.
import { SlipwayError } from '../util/errors.ts';

export interface RekeyJob {
  readonly path: string;
  /** Indexes into `recipients` of the head. */
  readonly recipients: readonly number[];
  readonly armored: boolean;
  /** When the plaintext has this MAC, the previous release's file is still right. */
  readonly previousMac?: string;
}

/** Blobs: the source file of each job in order, then the record's key file if `hasMacKey`. */
export interface RekeyRequest {
  readonly version: 1;
  readonly task: 'rekey';
  /** Public keys as text, each once. */
  readonly recipients: readonly string[];
  /** Indexes of those for whom the record's key is encrypted, beside the identity itself. */
  readonly rekeyers: readonly number[];
  readonly hasMacKey: boolean;
  readonly rewrapMacKey: boolean;
  readonly jobs: readonly RekeyJob[];
}

/** Blobs: release files, of which the identity must open exactly those that `readable` says. */
export interface CannotReadRequest {
  readonly version: 1;
  readonly task: 'cannot-read';
  readonly paths: readonly string[];
}

export type JobFailure = 'undecryptable' | 'malformed' | 'damaged' | 'empty' | 'readable';

export type JobResult =
  | { readonly outcome: 'rekeyed'; readonly mac: string }
  | { readonly outcome: 'same'; readonly mac: string }
  | { readonly outcome: 'failed'; readonly failure: JobFailure };

/** Blobs: the new file of each `rekeyed` job in order, then the record's key file if `newMacKey`. */
export interface RekeyReply {
  readonly version: 1;
  readonly results: readonly JobResult[];
  /** Fingerprints of who can open the record's key. */
  readonly rekeyers: readonly string[];
  readonly newMacKey: boolean;
  /** A hash of the record's key: tells two keys apart. */
  readonly macKeyId: string;
  /** The old key could not be opened, so MACs made under it mean nothing now. */
  readonly macKeyLost: boolean;
}

/** Which of the files the identity could read. */
export interface CannotReadReply {
  readonly version: 1;
  readonly readable: readonly string[];
}

/** The identity is no usable key; the message never carries any of it. */
export interface IdentityRefused {
  readonly version: 1;
  readonly refused: string;
  readonly next?: string;
}

export interface RekeyMessage<Head> {
  readonly head: Head;
  readonly blobs: readonly Buffer[];
}

/** `u32 length, JSON head {head, sizes}`, then the blobs. */
export function formatRekeyMessage<Head>(message: RekeyMessage<Head>): Buffer {
  const sizes = message.blobs.map((blob) => blob.length);
  const head = Buffer.from(JSON.stringify({ head: message.head, sizes }));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  return Buffer.concat([length, head, ...message.blobs]);
}

/** Both ends are the same program, so a message of another shape is `internal`. */
export function parseRekeyMessage<Head>(bytes: Buffer): RekeyMessage<Head> {
  const headEnd = bytes.length < 4 ? Infinity : 4 + bytes.readUInt32BE(0);
  if (headEnd > bytes.length) throw cut();
  const { head, sizes } = JSON.parse(bytes.toString('utf8', 4, headEnd)) as { head: Head; sizes: number[] };
  let offset = headEnd;
  const blobs = sizes.map((size) => bytes.subarray(offset, (offset += size)));
  if (offset !== bytes.length) throw cut();
  return { head, blobs };
}

function cut(): SlipwayError {
  return new SlipwayError('internal', 'The message of the re-key process is cut short.');
}
