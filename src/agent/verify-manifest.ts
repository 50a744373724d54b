// The verdict on a manifest as it came out of git: first the signature over its exact bytes, then its meaning.
// Nothing of an unsigned manifest is parsed, so that a hostile one can reach no parser.
import { formatIssue } from '../api/issue-text.ts';
import { releaseManifest, signedManifestBytes } from '../api/manifest.ts';
import { parsePublicKey, verifyText } from '../nix/signature.ts';
import type { ManifestFacts } from './release-facts.ts';
import { parseJson } from '../util/parse-json.ts';

const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;
const MAX_SIGNATURES = 16;

/** `file` and `signature` are the blobs, undefined where there is none; the signature file holds one a line. */
export function verifyManifest(
  file: Uint8Array | undefined,
  signature: Uint8Array | undefined,
  trustedKeys: readonly string[],
): ManifestFacts {
  if (file === undefined) return { kind: 'missing' };
  if (file.length > MAX_MANIFEST_BYTES) return { kind: 'malformed', detail: 'is larger than 16 MiB.' };
  if (signature === undefined) return { kind: 'untrusted', detail: 'is not signed.' };
  const distrust = whyUntrusted(file, signature, trustedKeys);
  return distrust === undefined ? parseManifest(file) : { kind: 'untrusted', detail: distrust };
}

function whyUntrusted(
  file: Uint8Array,
  signature: Uint8Array,
  trustedKeys: readonly string[],
): string | undefined {
  const lines = Buffer.from(signature).toString('utf8').split('\n');
  const signatures = lines.map((line) => line.trim()).filter((line) => line !== '');
  const keys = trustedKeys.map(parsePublicKey);
  const message = signedManifestBytes(file);
  const good = signatures.slice(0, MAX_SIGNATURES).some((one) => verifyText(keys, message, one));
  if (good) return undefined;
  const trusted = trustedKeys.map(keyName);
  const used = signatures.slice(0, MAX_SIGNATURES).map(keyName);
  if (used.some((name) => trusted.includes(name))) {
    return `has a bad signature of ${used.join(', ')}: its bytes or the key are not what was signed.`;
  }
  return `is signed by ${used.join(', ') || 'nobody'}, and this agent trusts only ${trusted.join(', ')}.`;
}

function parseManifest(file: Uint8Array): ManifestFacts {
  const parsed = releaseManifest.safeParse(parseJson(Buffer.from(file).toString('utf8')));
  if (parsed.success) return { kind: 'trusted', manifest: parsed.data };
  const detail = `is not one that this agent understands (${formatIssue(parsed.error.issues[0])}).`;
  return { kind: 'malformed', detail };
}

/** The name before the colon, cut short: it comes from outside and goes into messages. */
function keyName(text: string): string {
  return text
    .slice(0, Math.max(0, text.indexOf(':')))
    .replaceAll(/[^\w.@/-]/g, '?')
    .slice(0, 100);
}
