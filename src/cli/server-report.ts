// What a server prints: where it is and what to do next, then a line for each run. With --json one object a line.
import type { RunStatus } from '../api/fleet-status.ts';
import type { ServerConfig } from '../api/server-config.ts';
import type { RunOutcome } from '../fleet/run-store.ts';
import { isLocalAddress, parseListenAddress } from '../http/listen-address.ts';
import { messageOf } from '../util/errors.ts';
import type { CliIo } from './cli-io.ts';
import type { ControlPlane } from './control-plane.ts';
import { formatTable, makeStyle, stripControl, type Style } from './style.ts';

export class ServerReport {
  readonly #io: CliIo;
  readonly #json: boolean;
  readonly #style: Style;

  constructor(io: CliIo, json: boolean) {
    this.#io = io;
    this.#json = json;
    this.#style = makeStyle(io.color);
  }

  listening(plane: ControlPlane, config: ServerConfig): void {
    if (this.#json) return this.#line(listeningJson(plane, config));
    this.#io.stdout(listeningText(plane, config, this.#style));
  }

  run(run: RunStatus, outcome: RunOutcome | undefined): void {
    const { id, repository, commit, reason } = run;
    if (this.#json) {
      const state = outcome?.state ?? 'running';
      return this.#line({ kind: 'run', id, repository, commit, state, note: outcome?.note ?? reason });
    }
    const name = `run ${id} of ${repository}`;
    if (!outcome) return this.#io.stdout(`${name} began (${stripControl(reason)})\n`);
    const word = outcome.state.replaceAll('-', ' ');
    const shown = outcome.state === 'failed' ? this.#style.bad(word) : this.#style.good(word);
    this.#io.stdout(`${name} ${shown}: ${stripControl(outcome.note)}\n`);
  }

  stopping(): void {
    if (this.#json) this.#line({ kind: 'stopping' });
    else this.#io.stdout('Stopping.\n');
  }

  /** What the server could tell nobody else. */
  readonly error = (error: unknown): void => {
    const stack = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
    this.#io.stderr(`${stack.split('\n').map(stripControl).join('\n')}\n`);
  };

  #line(value: Record<string, unknown>): void {
    this.#io.stdout(`${JSON.stringify(value)}\n`);
  }
}

function listeningJson(plane: ControlPlane, config: ServerConfig): Record<string, unknown> {
  return {
    kind: 'listening',
    urls: plane.urls,
    publicUrl: plane.publicUrl,
    data: plane.paths.root,
    releaseKey: plane.keys.releasePublicKey,
    rekeyRecipient: plane.keys.rekeyRecipient,
    caches: plane.caches.map(({ name, publicKeys }) => ({
      name,
      url: `${plane.publicUrl}/${name}`,
      publicKeys,
    })),
    repositories: config.repositories.map(({ name, branch }) => ({ name, branch })),
    adminTokenFile: plane.keys.adminTokenFile,
    viewTokenFile: plane.keys.viewTokenFile,
    webhookSecretFile: plane.keys.webhookSecretFile,
  };
}

function listeningText(plane: ControlPlane, config: ServerConfig, style: Style): string {
  const { keys, publicUrl } = plane;
  const repositories = config.repositories.flatMap((one) => [
    ['repository', `${style.bold(one.name)} ${one.url} ${style.dim(`${one.branch} → ${one.releaseBranch}`)}`],
    ['webhook', `${publicUrl}/hooks/github/${one.name} ${style.dim('(or gitlab, forgejo)')}`],
  ]);
  const rows = [
    ['status page', ...plane.urls.slice(0, 1).map((url) => style.accent(url))],
    ...repositories,
    ...plane.caches.map(({ name }) => ['cache', `${publicUrl}/${name}`]),
  ];
  const trust = [
    ['hosts trust the cache', plane.caches.flatMap(({ publicKeys }) => publicKeys).join(' ')],
    ['agents trust releases', keys.releasePublicKey],
    ['secrets are also for', keys.rekeyRecipient],
    ['webhook secret', keys.webhookSecretFile],
    ['tokens', `${keys.adminTokenFile}, ${keys.viewTokenFile}`],
  ];
  const dimmed = (table: string[][]): string[][] =>
    table.map(([name = '', ...rest]) => [style.dim(name), ...rest]);
  return [
    `${style.good('Slipway is up.')} Ctrl-C stops it.\n`,
    formatTable(dimmed(rows)),
    `\n${style.bold('Who must know what')}\n`,
    formatTable(dimmed(trust)),
    exposureNote(config),
    '\n',
  ].join('');
}

function exposureNote(config: ServerConfig): string {
  if (config.view !== 'local' || config.listen.every((text) => isLocalAddress(parseListenAddress(text))))
    return '';
  return '\nFrom other machines the status page asks for the view token. Put TLS before it (Caddy) before you log in there.\n';
}
