// What OpenSSH means when it ends with 255: its stderr sorted into our codes, with the next step. Wording of OpenSSH
// 7 to 10; what is not recognised counts as unreachable, because then nothing ran on the host.
import { SlipwayError } from '../util/errors.ts';
import { fingerprintOf, type SshTarget } from './ssh-target.ts';

export function sshFailure(target: SshTarget, stderr: string): SlipwayError {
  if (/Host key verification failed|host key is known for|REMOTE HOST IDENTIFICATION/i.test(stderr))
    return hostKeyFailure(target, stderr);
  if (/Permission denied|Too many authentication failures|no mutual signature/i.test(stderr))
    return loginRefused(target, stderr);
  return new SlipwayError(
    'host_unreachable',
    `${target.name} cannot be reached at ${destination(target)}: ${lastLine(stderr)}.`,
    {
      next: `Check that it is up and that this works: ssh ${sshWords(target)} true`,
      facts: { host: target.name, address: target.address, port: target.port },
    },
  );
}

function hostKeyFailure(target: SshTarget, stderr: string): SlipwayError {
  const shown = /SHA256:[A-Za-z0-9+/]{43}/.exec(stderr)?.[0];
  const expected = target.hostKeys.map(fingerprintOf);
  if (expected.length === 0) return unknownHostKey(target);
  return new SlipwayError(
    'host_key_mismatch',
    `${target.name} at ${destination(target)} showed ${shown ?? 'a host key of another type'}, the fleet expects ${expected.join(' or ')}.`,
    {
      next: `If the host was reinstalled, put its new key into slipway.hosts.${target.name}.publicKey (ssh-keyscan ${target.address}) and re-key; if not, find out what answers at this address.`,
      facts: { host: target.name, shown, expected },
    },
  );
}

function unknownHostKey(target: SshTarget): SlipwayError {
  return new SlipwayError(
    'host_key_mismatch',
    `The host key of ${target.name} is not known here, or not the known one.`,
    {
      next: `Set slipway.hosts.${target.name}.publicKey in the flake, or accept it once by hand: ssh ${sshWords(target)}`,
      facts: { host: target.name },
    },
  );
}

function loginRefused(target: SshTarget, stderr: string): SlipwayError {
  return new SlipwayError(
    'unauthorized',
    `${target.name} does not let ${target.user} in: ${lastLine(stderr)}.`,
    {
      next: `Add this machine's ssh key to ${target.user}@${target.address} (users.users.${target.user}.openssh.authorizedKeys.keys).`,
      facts: { host: target.name, user: target.user },
    },
  );
}

function destination(target: SshTarget): string {
  return target.port === undefined || target.port === 22
    ? target.address
    : `${target.address} port ${target.port}`;
}

function sshWords(target: SshTarget): string {
  const port = target.port === undefined || target.port === 22 ? '' : `-p ${target.port} `;
  return `${port}${target.user}@${target.address}`;
}

function lastLine(stderr: string): string {
  const lines = stderr.split('\n').map((line) => line.trim());
  const line = lines.findLast((line) => line !== '' && !/^(mux_client|Shared connection)/.test(line));
  return (line ?? 'the connection closed without a word').replace(/\.$/, '');
}
