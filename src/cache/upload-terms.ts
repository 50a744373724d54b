// What an uploader must agree on with this server before it cuts anything.
import { LARGEST_BUNDLE } from '../content/bundle-format.ts';
import { CHUNKER_VERSION } from '../content/chunker.ts';
import { NORMALISER_VERSION } from '../content/normaliser.ts';

export interface UploadVersions {
  readonly chunker: number;
  readonly normaliser: number;
  /** Most bytes of a bundle. */
  readonly maxBundle: number;
  /** Of one push. */
  readonly bundlesAtOnce: number;
}

/** One is taken in while one is committed. */
const BUNDLES_AT_ONCE = 2;

export function uploadVersions(): UploadVersions {
  return {
    chunker: CHUNKER_VERSION,
    normaliser: NORMALISER_VERSION,
    maxBundle: LARGEST_BUNDLE,
    bundlesAtOnce: BUNDLES_AT_ONCE,
  };
}
