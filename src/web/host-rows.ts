// The table of hosts: three axes in words and shapes (never colour alone), what runs, and what happened last.
import type { HostStatus } from '../api/fleet-status.ts';
import { element, type Row } from './dom.ts';
import { healthTone, isSilent, syncTone, type Tone } from './fleet-state.ts';
import { formatAgo, splitToplevel } from './format.ts';
import { plainText } from './log-text.ts';

export function hostRows(hosts: readonly HostStatus[], filter: string, now: number): Row[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = hosts.filter((host) => words.every((word) => rowText(host).includes(word)));
  return shown.map((host) => ({
    key: host.name,
    look: JSON.stringify([host, isSilent(host, now)]),
    render: () => hostRow(host, now),
  }));
}

/** A piece of text with its tone's shape before it. */
export function signal(tone: Tone, text: string): HTMLElement {
  return element('span', { class: 'signal', 'data-tone': tone }, text);
}

/** A moment as people say it; app.ts keeps it fresh. */
export function timeAgo(at: string, now: number): HTMLElement {
  return element('time', { datetime: at, title: new Date(at).toLocaleString() }, formatAgo(at, now));
}

function hostRow(host: HostStatus, now: number): HTMLElement {
  const name = element('th', { scope: 'row' }, host.name, ...modeTag(host));
  return element(
    'tr',
    {},
    name,
    cell('Release', syncSignal(host)),
    cell('Health', healthSignal(host, now)),
    cell('Now', host.operation === 'idle' ? element('span', { class: 'quiet' }, 'idle') : nowSignal(host)),
    cell('System', systemOf(host)),
    cell('Last', lastOf(host, now)),
  );
}

function cell(label: string, content: Node): HTMLElement {
  return element('td', { 'data-label': label }, content);
}

function modeTag(host: HostStatus): (Node | string)[] {
  return host.mode === 'unknown' ? [] : [' ', element('span', { class: 'tag' }, host.mode)];
}

function syncSignal(host: HostStatus): HTMLElement {
  if (host.mode === 'manual') return element('span', { class: 'quiet' }, 'by hand');
  const serial = host.serial === undefined ? '' : ` · ${host.serial}`;
  return signal(syncTone(host), `${host.sync}${host.sync === 'synced' ? serial : ''}`);
}

function healthSignal(host: HostStatus, now: number): HTMLElement {
  return isSilent(host, now) ? signal('warn', 'silent') : signal(healthTone(host), host.health);
}

function nowSignal(host: HostStatus): HTMLElement {
  const calm = host.operation === 'suspended' || host.operation === 'waiting';
  return signal(calm ? 'off' : 'busy', host.operation);
}

function systemOf(host: HostStatus): HTMLElement {
  const toplevel = host.current ?? host.wanted;
  if (toplevel === undefined) return element('span', { class: 'quiet' }, '–');
  const { hash, name } = splitToplevel(toplevel);
  return element('span', { class: 'system', title: toplevel }, element('code', {}, hash), ` ${name}`);
}

function lastOf(host: HostStatus, now: number): HTMLElement {
  const box = element('div', { class: 'last' });
  const deploy = host.lastDeploy;
  if (deploy) {
    const run = element('a', { href: `#run=${deploy.run}` }, `run ${deploy.run}`);
    box.append(element('span', {}, `${deploy.phase} `, timeAgo(deploy.at, now), ', ', run));
  }
  if (host.lastReport !== undefined) {
    box.append(element('span', { class: 'quiet' }, 'agent spoke ', timeAgo(host.lastReport, now)));
  }
  if (host.note !== '') box.append(element('span', { class: 'note' }, plainText(host.note)));
  if (host.quarantined > 0) {
    box.append(signal('warn', `${host.quarantined} in quarantine`));
  }
  return box;
}

function rowText(host: HostStatus): string {
  return [host.name, host.mode, host.sync, host.health, host.operation, host.current, host.note]
    .join(' ')
    .toLowerCase();
}
