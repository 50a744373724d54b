// A thread that decodes .xz streams, one after another, so that the server answers others meanwhile.
// Lockstep: each message asks for one thing, each gets one reply of up to OUTPUT_BYTES, so a bomb cannot fill memory.
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../../util/errors.ts';
import { XzDecoder } from './xz-decoder.ts';

/** `start` begins a new run of streams; `input` and `end` are taken only after a reply of `wants`. */
export type XzRequest =
  | { readonly kind: 'start' | 'continue' | 'end' }
  | { readonly kind: 'input'; readonly bytes: Uint8Array };

export type XzReply =
  | { readonly kind: 'output'; readonly bytes: Uint8Array }
  | { readonly kind: 'wants' }
  | { readonly kind: 'failed'; readonly why: string };

const OUTPUT_BYTES = 1024 * 1024;

let decoder: XzDecoder | undefined;

parentPort?.on('message', (request: XzRequest) => void reply(request));

async function reply(request: XzRequest): Promise<void> {
  const answered = await answer(request).catch((error: unknown): XzReply => ({
    kind: 'failed',
    why: messageOf(error),
  }));
  const moved = answered.kind === 'output' ? [answered.bytes.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(answered, moved);
}

async function answer(request: XzRequest): Promise<XzReply> {
  if (request.kind === 'start') decoder = await XzDecoder.create();
  if (decoder === undefined) throw new Error('no stream was started');
  if (request.kind === 'input') decoder.supply(request.bytes);
  if (request.kind === 'end') decoder.end();
  return readSome(decoder);
}

function readSome(from: XzDecoder): XzReply {
  const pieces: Uint8Array[] = [];
  let size = 0;
  while (size < OUTPUT_BYTES) {
    const piece = from.read();
    if (piece === undefined) break;
    pieces.push(piece);
    size += piece.length;
  }
  if (size === 0) return { kind: 'wants' };
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { kind: 'output', bytes };
}
