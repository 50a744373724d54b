// Where and as whom ssh reaches a host, and the options that say so. Pure; the rules of precedence are OpenSSH's:
// the first value of an option wins, so what must hold comes first and what may be overridden last.
import { createHash } from 'node:crypto';
import { type HostConfig, publicKeys } from '../api/fleet-config.ts';
import type { HostAddress } from './host.ts';
import { SlipwayError } from '../util/errors.ts';

export interface SshTarget {
  /** The host's name in the fleet; also the name under which its key is known. */
  readonly name: string;
  readonly address: string;
  readonly user: string;
  /** Undefined: what the options or the user's ssh configuration say. */
  readonly port: number | undefined;
  /** Extra words for ssh's argv, from the fleet's configuration. */
  readonly options: readonly string[];
  /** OpenSSH public keys that the host may show; empty: the user's own known_hosts rules apply. */
  readonly hostKeys: readonly string[];
  /** Words that make a command root's, where the fleet names them (deploy-rs' `sudo`). Default: found out. */
  readonly sudo?: readonly string[];
}

/** Files of a connection, in a private folder. */
export interface SshFiles {
  readonly knownHosts: string;
  /** The control socket; undefined: a connection of its own. */
  readonly control: string | undefined;
}

const CONNECT_TIMEOUT_SECONDS = 5;
// A dead peer is noticed after INTERVAL x COUNT seconds of silence.
const ALIVE_INTERVAL_SECONDS = 2;
const ALIVE_COUNT = 3;

export function sshTargetOf(name: string, config: HostConfig): SshTarget {
  return {
    name,
    address: config.targetHost ?? name,
    user: config.targetUser,
    port: config.targetPort,
    options: config.sshOptions,
    hostKeys: publicKeys(config).filter(isSshKey),
  };
}

/** `[user@]address[:port]`, IPv6 in brackets when a port follows. */
export function parseSshTarget(text: string, name?: string): SshTarget {
  const match =
    /^(?:([a-z_][a-z0-9_-]*)@)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+|[0-9A-Fa-f:]{2,}))(?::(\d{1,5}))?$/.exec(
      text,
    );
  const address = match?.[2] ?? match?.[3];
  const port = Number(match?.[4] ?? 22);
  if (address === undefined || port < 1 || port > 65_535)
    throw new SlipwayError('invalid', `"${text}" is not an ssh destination.`, {
      next: 'Write it as root@address or root@address:port.',
    });
  return { name: name ?? address, address, user: match?.[1] ?? 'root', port, options: [], hostKeys: [] };
}

/** The same host at another address. Its login, host keys and options stay; the address comes before the options. */
export function moveTarget(target: SshTarget, { address, port }: HostAddress): SshTarget {
  return { ...target, address, port: port ?? target.port };
}

/**
 * What ssh is given as destination. The address, so that the user's own ssh configuration for it applies; for an IPv6
 * address the host's name (with option HostName), because Nix' ssh:// URLs cannot hold one.
 */
export function sshDestination(target: SshTarget): string {
  return target.address.includes(':') ? target.name : target.address;
}

/** The words between `ssh` and the destination. */
export function sshOptions(target: SshTarget, files: SshFiles): string[] {
  return [
    ...option('BatchMode', 'yes'),
    ...option('ControlMaster', 'no'),
    ...option('ControlPath', files.control ?? 'none'),
    ...(target.hostKeys.length === 0 ? [] : hostKeyOptions(target, files)),
    ...(target.address.includes(':') ? option('HostName', target.address) : []),
    ...(target.port === undefined ? [] : option('Port', target.port)),
    ...option('User', target.user),
    ...target.options,
    ...option('ConnectTimeout', CONNECT_TIMEOUT_SECONDS),
    ...option('ServerAliveInterval', ALIVE_INTERVAL_SECONDS),
    ...option('ServerAliveCountMax', ALIVE_COUNT),
    ...option('LogLevel', 'ERROR'),
  ];
}

function option(name: string, value: string | number): string[] {
  return ['-o', `${name}=${value}`];
}

function hostKeyOptions(target: SshTarget, files: SshFiles): string[] {
  return [
    'StrictHostKeyChecking=yes',
    `UserKnownHostsFile=${files.knownHosts}`,
    'GlobalKnownHostsFile=/dev/null',
    `HostKeyAlias=${target.name}`,
    'UpdateHostKeys=no',
    'VerifyHostKeyDNS=no',
  ].flatMap((word) => ['-o', word]);
}

/** known_hosts(5): one line a key, under the host's fleet name. */
export function formatKnownHosts(target: SshTarget): string {
  return target.hostKeys.map((key) => `${target.name} ${key.split(' ').slice(0, 2).join(' ')}\n`).join('');
}

/** `SHA256:…` of a public key line, as ssh and ssh-keygen print it. */
export function fingerprintOf(publicKey: string): string {
  const blob = Buffer.from(publicKey.trim().split(/\s+/)[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

function isSshKey(key: string): boolean {
  return /^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(\s|$)/.test(key);
}
