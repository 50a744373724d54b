// Where an upstream may send us. Its operator chose the upstream, not the places that it redirects to: those may be public
// (Cachix and S3 do that), but never lie further inside the network than the upstream itself, or a stranger's answer could
// make this server knock at doors that only it can reach.
import { BlockList, isIP, isIPv6 } from 'node:net';

/** From everybody's to this machine's own; `link-local` holds the metadata services of clouds and is never a target. */
export type AddressKind = 'public' | 'private' | 'loopback' | 'link-local';

const RANKS: Readonly<Record<AddressKind, number>> = { public: 0, private: 1, loopback: 2, 'link-local': 3 };

const LISTS: Readonly<Record<Exclude<AddressKind, 'public'>, BlockList>> = {
  'link-local': listOf(['169.254.0.0', 16], ['fe80::', 10], ['fd00:ec2::254', 128]),
  loopback: listOf(['127.0.0.0', 8], ['0.0.0.0', 8], ['::1', 128], ['::', 128]),
  private: listOf(
    ['10.0.0.0', 8],
    ['172.16.0.0', 12],
    ['192.168.0.0', 16],
    ['100.64.0.0', 10],
    ['192.0.0.0', 24],
    ['fc00::', 7],
    ['fec0::', 10],
  ),
};

export function addressKind(address: string): AddressKind {
  // ::ffff:10.0.0.1 and 64:ff9b::10.0.0.1 are the IPv4 address behind them.
  const mapped = /^(?:::ffff:|64:ff9b::)(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return addressKind(mapped);
  const family = isIPv6(address) ? 'ipv6' : 'ipv4';
  for (const kind of ['link-local', 'loopback', 'private'] as const)
    if (LISTS[kind].check(address, family)) return kind;
  return 'public';
}

/** Whether an upstream at an address of the kind `from` may send us to the address `to`. */
export function mayRedirectTo(from: AddressKind, to: string): boolean {
  const kind = addressKind(to);
  return kind !== 'link-local' && RANKS[kind] <= RANKS[from];
}

/** Scheme and host of a redirect; addresses behind a name are checked when it is resolved. */
export function mayFollow(from: URL, kind: AddressKind, to: URL): boolean {
  if (to.protocol !== 'https:' && to.protocol !== 'http:') return false;
  if (from.protocol === 'https:' && to.protocol !== 'https:') return false;
  if (to.username !== '' || to.password !== '') return false;
  if (to.host === from.host) return true;
  const literal = to.hostname.replace(/^\[(.*)\]$/, '$1');
  return isIP(literal) === 0 || mayRedirectTo(kind, literal);
}

function listOf(...subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of subnets) list.addSubnet(network, prefix, isIPv6(network) ? 'ipv6' : 'ipv4');
  return list;
}
