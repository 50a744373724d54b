// A host that may move while it is deployed to: which address a new connection tries next.
import type { Host } from '../effects/host.ts';
import type { DeployRequest } from './deploy-request.ts';

export class Reachable {
  /** Over the connection that is open already. */
  readonly host: Host;
  readonly #moved: DeployRequest['confirmAt'];
  #tries = 0;
  #confirmations = 0;

  constructor(host: Host, moved: DeployRequest['confirmAt']) {
    this.host = host;
    this.#moved = moved;
  }

  /** A new connection, at the new address and the old one in turn. */
  next(): Host {
    return this.#tries++ % 2 === 0 ? this.host.fresh(this.#moved) : this.host.fresh();
  }

  /** The connection that proves the new system: at the new address first, and only there when that was asked for. */
  forConfirmation(): Host {
    const turn = this.#confirmations++ % 2;
    return turn === 0 || this.#moved?.only === true ? this.host.fresh(this.#moved) : this.host.fresh();
  }
}
