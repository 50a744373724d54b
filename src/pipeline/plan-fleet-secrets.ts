// What a release would do with the fleet's secrets, from what the flake and its hosts say: for the pipeline and for the
// commands that look without releasing.
import { rekeyerKeys } from '../api/fleet-config.ts';
import { visitFileHistory } from '../effects/git-history.ts';
import { planSecrets, type SecretsPlan } from '../secrets/plan-secrets.ts';
import type { SourceTree } from '../secrets/source-tree.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import type { SourceHostFacts } from './host-facts.ts';
import { secretReaders } from './secret-readers.ts';

export interface FleetSecrets {
  readonly fleet: FleetFacts;
  readonly results: readonly HostResult<SourceHostFacts>[];
  readonly source: SourceTree;
  /** The release that grants are judged by; absent when there is none. */
  readonly previous?: { readonly tree: SourceTree; readonly commit: string };
  /** The release whose ciphertexts are taken over where they are still right; default: the same. */
  readonly pool?: SourceTree;
  /** Git directory and commit of the source, for its history. */
  readonly repository: string;
  readonly commit: string;
}

export async function planFleetSecrets(request: FleetSecrets): Promise<SecretsPlan> {
  const { fleet, source, previous, pool, repository, commit } = request;
  return await planSecrets({
    hosts: secretReaders(fleet, request.results),
    sourceRoot: fleet.sourceRoot,
    source,
    rekeyers: rekeyerKeys(fleet.config),
    editors: fleet.config.secrets.editors,
    unmanaged: fleet.config.secrets.unmanaged,
    history: async (visit) => await visitFileHistory(repository, commit, '*.age', visit),
    ...(previous && { previous: previous.tree, base: previous.commit }),
    ...(pool && { pool }),
  });
}
