// Divides a bundle that something between here and the cache lets not through into smaller ones, which the server takes one
// after another as it takes the bundles of a large NAR.
import { readRecords } from '../content/bundle-format.ts';
import { Bundle, type OutgoingNar } from './bundle.ts';

/** Bundles of the same records in the same order; each ends with the first record that makes it `full` bytes or more. */
export async function* splitBundle(bundle: Bundle, full: number): AsyncGenerator<Bundle> {
  let part = Bundle.ofSize(full);
  let opened = 0;
  let nar: OutgoingNar | undefined;
  for await (const record of readRecords(once(bundle.bytes()))) {
    switch (record.kind) {
      case 'begin':
      case 'resume':
        nar = copyAt(bundle.nars[opened++], record.kind === 'begin' ? 0 : record.chunks);
        break;
      case 'path':
        if (nar !== undefined) part.finish(nar);
        break;
      default:
        if (nar !== undefined) part.chunks(nar, record);
    }
    if (part.size < full) continue;
    yield part;
    part = Bundle.ofSize(full);
  }
  if (!part.isEmpty) yield part;
}

/** The NAR as it was when its first `count` chunks were sent. */
function copyAt(nar: OutgoingNar | undefined, count: number): OutgoingNar {
  if (nar === undefined) throw new RangeError('a bundle with more NARs than it knows of');
  return { info: nar.info, chunks: nar.chunks.slice(0, count), left: 0 };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes);
}
