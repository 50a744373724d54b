// Who reads secrets on the fleet's hosts: each host, and each of its home-manager users, `anna@web1`, whose secrets the
// host's own key does not open. To planning and verification they are readers alike.
import { type HostConfig, publicKeys, userKeys } from '../api/fleet-config.ts';
import type { HostSecrets } from '../secrets/host-secrets.ts';
import type { SecretsHost } from '../secrets/secrets-request.ts';
import type { HostResult } from './evaluate-hosts.ts';
import type { FleetFacts } from './fleet-facts.ts';
import type { SourceHostFacts } from './host-facts.ts';

/** The key lines of every reader that the flake names. */
export function readerKeys(fleet: FleetFacts): Record<string, readonly string[]> {
  const keys = [...fleet.hosts].flatMap(([host, config]): [string, readonly string[]][] => [
    [host, publicKeys(config)],
    ...Object.keys(config.users).map((user): [string, readonly string[]] => [
      `${user}@${host}`,
      userKeys(config, user),
    ]),
  ]);
  return Object.fromEntries(keys);
}

/** What each reader uses; undefined for the readers of a host that does not evaluate. */
export function secretReaders(
  fleet: FleetFacts,
  results: readonly HostResult<SourceHostFacts>[],
): Record<string, SecretsHost> {
  const readers = results.flatMap((result) => {
    const config = fleet.hosts.get(result.host);
    const tags = config?.tags ?? [];
    const host = { publicKeys: config === undefined ? [] : publicKeys(config), tags };
    const own = [result.host, { ...host, secrets: result.ok ? result.value.secrets : undefined }] as const;
    const users = usersOf(result, config).map(([user, secrets]) => {
      const keys = config === undefined ? [] : userKeys(config, user);
      return [`${user}@${result.host}`, { publicKeys: keys, tags, secrets }] as const;
    });
    return [own, ...users];
  });
  return Object.fromEntries(readers);
}

/** Users with secrets; of a host that does not evaluate, those that could have some: what they read stays as it was. */
function usersOf(
  result: HostResult<SourceHostFacts>,
  config: HostConfig | undefined,
): (readonly [string, HostSecrets | undefined])[] {
  if (result.ok) return Object.entries(result.value.users);
  return Object.keys(config?.users ?? {}).map((user) => [user, undefined] as const);
}
