// Which probes prove that a pull host can still be reached and steered after an activation, and what they mean.
// A probe counts only when it passed before the activation: a forge that was down already condemns no release.

export type ProbeKind = 'remote' | 'cache' | 'controller';

export interface Probe {
  readonly kind: ProbeKind;
  /** Unique and stable between agent processes: the baseline is remembered by it. */
  readonly name: string;
  readonly url: string;
}

export interface ProbeTargets {
  readonly remotes: readonly { readonly url: string }[];
  readonly caches: readonly { readonly url: string }[];
  readonly controller: { readonly url: string } | undefined;
  readonly wanted: { readonly remote: boolean; readonly cache: boolean; readonly controller: boolean };
}

/** Every probe that the configuration asks for, each address once. */
export function planProbes(targets: ProbeTargets): Probe[] {
  const probes = [
    ...(targets.wanted.remote ? targets.remotes.map((one) => probe('remote', one.url)) : []),
    ...(targets.wanted.cache ? targets.caches.filter(overHttp).map((one) => probe('cache', one.url)) : []),
    ...(targets.wanted.controller && targets.controller ? [probe('controller', targets.controller.url)] : []),
  ];
  return [...new Map(probes.map((one) => [one.name, one])).values()];
}

/** Whether a trial may start: a host on which every probe fails already could not tell a cut network. */
export function isBlind(probes: readonly Probe[], passed: readonly string[]): boolean {
  return probes.length > 0 && passed.length === 0;
}

/** The probes of the baseline that do not pass now. */
export function lostProbes(baseline: readonly string[], passed: readonly string[]): string[] {
  return baseline.filter((name) => !passed.includes(name));
}

function probe(kind: ProbeKind, url: string): Probe {
  return { kind, name: `${kind} ${url}`, url };
}

function overHttp(cache: { readonly url: string }): boolean {
  return /^https?:\/\//.test(cache.url);
}
