// .drv files: the ATerm `Derive([outputs],[inputDrvs],[inputSrcs],system,builder,[args],[env])` (libstore/derivations.cc).
import { SlipwayError } from '../util/errors.ts';

export interface DerivationOutput {
  /** Empty for outputs whose path is known only after the build. */
  readonly path: string;
  /** `sha256`, `r:sha256` … for fixed outputs, else empty. */
  readonly hashAlgo: string;
  readonly hash: string;
}

export interface Derivation {
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** Store path of a .drv -> names of the outputs that are used. */
  readonly inputDerivations: ReadonlyMap<string, readonly string[]>;
  readonly inputSources: readonly string[];
  readonly system: string;
  readonly builder: string;
  readonly args: readonly string[];
  readonly env: ReadonlyMap<string, string>;
}

/** Far above real ones (nixpkgs' largest are a few hundred kB). */
const MAX_BYTES = 32 * 1024 * 1024;

/** Parses the text of a .drv file. Throws `invalid` with the position. */
export function parseDerivation(text: string): Derivation {
  if (text.length > MAX_BYTES) throw new SlipwayError('too_large', 'A .drv file is larger than 32 MiB.');
  const reader = new AtermReader(text);
  reader.expect('Derive(');
  const outputs = reader.list(() => readOutput(reader));
  reader.expect(',');
  const inputDerivations = reader.list(() => readInput(reader));
  reader.expect(',');
  const inputSources = reader.list(() => reader.string());
  const [system, builder] = [readField(reader), readField(reader)];
  reader.expect(',');
  const args = reader.list(() => reader.string());
  reader.expect(',');
  const env = reader.list(() => readPair(reader));
  reader.expect(')');
  reader.end();
  return {
    outputs: new Map(outputs),
    inputDerivations: new Map(inputDerivations),
    inputSources,
    system,
    builder,
    args,
    env: new Map(env),
  };
}

/** Inverse of `parseDerivation`, byte for byte as Nix writes it: maps sorted, arguments in order. */
export function formatDerivation(derivation: Derivation): string {
  const outputs = sorted(derivation.outputs).map(([name, output]) =>
    tuple([name, output.path, output.hashAlgo, output.hash].map(quote)),
  );
  const inputs = sorted(derivation.inputDerivations).map(([path, names]) =>
    tuple([quote(path), list(names.toSorted().map(quote))]),
  );
  const env = sorted(derivation.env).map(([name, value]) => tuple([quote(name), quote(value)]));
  const fields = [
    list(outputs),
    list(inputs),
    list(derivation.inputSources.toSorted().map(quote)),
    quote(derivation.system),
    quote(derivation.builder),
    list(derivation.args.map(quote)),
    list(env),
  ];
  return `Derive${tuple(fields)}`;
}

function readOutput(reader: AtermReader): [string, DerivationOutput] {
  reader.expect('(');
  const name = reader.string();
  const [path, hashAlgo, hash] = [readField(reader), readField(reader), readField(reader)];
  reader.expect(')');
  return [name, { path, hashAlgo, hash }];
}

function readInput(reader: AtermReader): [string, readonly string[]] {
  reader.expect('(');
  const path = reader.string();
  reader.expect(',');
  const outputs = reader.list(() => reader.string());
  reader.expect(')');
  return [path, outputs];
}

function readPair(reader: AtermReader): [string, string] {
  reader.expect('(');
  const name = reader.string();
  const value = readField(reader);
  reader.expect(')');
  return [name, value];
}

function readField(reader: AtermReader): string {
  reader.expect(',');
  return reader.string();
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };

class AtermReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  expect(word: string): void {
    if (!this.#text.startsWith(word, this.#at)) throw this.#malformed(`"${word}" expected`);
    this.#at += word.length;
  }

  list<T>(item: () => T): T[] {
    this.expect('[');
    const items: T[] = [];
    while (this.#text[this.#at] !== ']') {
      if (items.length > 0) this.expect(',');
      items.push(item());
    }
    this.expect(']');
    return items;
  }

  string(): string {
    this.expect('"');
    let value = '';
    for (;;) {
      const stop = this.#nextSpecial();
      value += this.#text.slice(this.#at, stop);
      this.#at = stop + 1;
      if (this.#text[stop] === '"') return value;
      const escaped = this.#text[this.#at++] ?? '';
      value += ESCAPES[escaped] ?? escaped;
    }
  }

  end(): void {
    if (this.#at !== this.#text.length) throw this.#malformed('text follows the end');
  }

  #nextSpecial(): number {
    for (let i = this.#at; i < this.#text.length; i++) {
      if (this.#text[i] === '"' || this.#text[i] === '\\') return i;
    }
    throw this.#malformed('a string does not end');
  }

  #malformed(why: string): SlipwayError {
    return new SlipwayError('invalid', `This is not a .drv file: ${why} at character ${this.#at}.`);
  }
}

function quote(text: string): string {
  const escaped = text
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('\n', '\\n')
    .replaceAll('\r', '\\r')
    .replaceAll('\t', '\\t');
  return `"${escaped}"`;
}

function tuple(items: readonly string[]): string {
  return `(${items.join(',')})`;
}

function list(items: readonly string[]): string {
  return `[${items.join(',')}]`;
}

function sorted<V>(map: ReadonlyMap<string, V>): [string, V][] {
  return [...map].toSorted(([a], [b]) => (a < b ? -1 : 1));
}
