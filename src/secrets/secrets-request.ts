// What planning the secrets of a release needs to be told: the hosts, the two trees, and who may edit.
import type { HostSecrets } from './host-secrets.ts';
import type { SourceTree } from './source-tree.ts';

export interface SecretsHost {
  /** Key lines from the fleet configuration. */
  readonly publicKeys: readonly string[];
  readonly tags?: readonly string[];
  /** What the evaluation said; undefined when it failed: then the host keeps what it had. */
  readonly secrets: HostSecrets | undefined;
}

export interface SecretsRequest {
  readonly hosts: Readonly<Record<string, SecretsHost>>;
  /** Store path of the evaluated source's root. */
  readonly sourceRoot: string;
  readonly source: SourceTree;
  /** The previous release's tree, by which grants are judged. The caller vouches for it: its manifest is signed. */
  readonly previous?: SourceTree;
  /** A release's tree, whose ciphertexts are taken over where they are still right; default: the previous release's. */
  readonly pool?: SourceTree;
  /** Commit of the previous release: an approval of grants holds on top of it alone. */
  readonly base?: string;
  /** Public keys of the re-keyers (`slipway.secrets.rekeyer`), if configured. */
  readonly rekeyers?: readonly string[];
  /** Public keys of who may decrypt the source branch. */
  readonly editors?: readonly string[];
  /** Patterns of `host/secret` that may name files of other inputs. */
  readonly unmanaged?: readonly string[];
  /** Every age file that the source's history holds, to recognise a secret that was put under another name. */
  readonly history?: SecretHistory;
}

export interface HistoricFile {
  readonly path: string;
  readonly bytes: Buffer;
}

/** Calls back with every version of every age file in the history of the source. */
export type SecretHistory = (visit: (file: HistoricFile) => void) => Promise<void>;
