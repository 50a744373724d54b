// The shape that each stanza type must have: how many arguments, how long the share and the body. From C2SP age.md and,
// for the ssh types, Go's agessh. A release may hold nothing else, so that no stranger hides behind an odd stanza.
import type { AgeStanza } from './age-header.ts';
import { parseBase64 } from './base64.ts';

interface Shape {
  /** Decoded length in bytes of each argument after the type. */
  readonly args: readonly number[];
  readonly body: (length: number) => boolean;
}

const WRAPPED_KEY = (length: number): boolean => length === 32;

const SHAPES: Readonly<Record<string, Shape>> = {
  X25519: { args: [32], body: WRAPPED_KEY },
  mlkem768x25519: { args: [1120], body: WRAPPED_KEY },
  'ssh-ed25519': { args: [4, 32], body: WRAPPED_KEY },
  // the body is as long as the modulus: 2048 to 16384 bits
  'ssh-rsa': { args: [4], body: (length) => length >= 256 && length <= 2048 },
  p256tag: { args: [4, 65], body: WRAPPED_KEY },
  mlkem768p256tag: { args: [4, 1153], body: WRAPPED_KEY },
};

/** What is wrong with the stanza's shape, or undefined. Types that a release never holds (scrypt, grease) are wrong. */
export function findStanzaFault(stanza: AgeStanza): string | undefined {
  const shape = Object.hasOwn(SHAPES, stanza.type) ? SHAPES[stanza.type] : undefined;
  if (shape === undefined) return `a recipient of the unknown type ${stanza.type.slice(0, 40)}`;
  const lengths = stanza.args.map((arg) => parseBase64(arg)?.length);
  const right =
    lengths.length === shape.args.length && lengths.every((length, index) => length === shape.args[index]);
  if (!right) return `a ${stanza.type} recipient with wrong arguments`;
  return shape.body(stanza.body.length)
    ? undefined
    : `a ${stanza.type} recipient with a body of the wrong length`;
}
