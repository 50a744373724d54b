// The Range header, RFC 9110 section 14: one range of bytes, as Nix sends it to resume (`bytes=N-`).

export type RangeRequest =
  | { readonly kind: 'whole' }
  | { readonly kind: 'part'; readonly start: number; readonly end: number }
  | { readonly kind: 'unsatisfiable' };

/**
 * What a Range header asks of a body of `length` bytes; `end` is excluded. Several ranges, other units and anything
 * malformed mean the whole body, which the RFC allows for all of them.
 */
export function parseRange(header: string | undefined, length: number): RangeRequest {
  const [, first, last] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '') ?? [];
  if (first === undefined || last === undefined || (first === '' && last === '')) return { kind: 'whole' };
  if (first === '') return suffixRange(Number(last), length);
  const start = Number(first);
  const end = last === '' ? length : Math.min(length, Number(last) + 1);
  if (last !== '' && Number(last) < start) return { kind: 'whole' };
  return start >= length ? { kind: 'unsatisfiable' } : { kind: 'part', start, end };
}

function suffixRange(wanted: number, length: number): RangeRequest {
  if (wanted === 0 || length === 0) return { kind: 'unsatisfiable' };
  return { kind: 'part', start: Math.max(0, length - wanted), end: length };
}
