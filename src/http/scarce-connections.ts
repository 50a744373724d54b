// Keeps connections free for those who ask something. A connection costs a stranger nothing, and the server has only so
// many: when most are taken, those go that are idle between two requests, and those that never said anything, the oldest
// first. So a crowd that only holds connections open shuts nobody out.
import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export interface ConnectionLimits {
  /** No more are accepted. */
  readonly most: number;
  /** More than this, and quiet ones have to go. */
  readonly plenty: number;
}

/** Looking for idle ones takes a look at each: once a second, or when so much of the room has gone since. */
const LOOK_MS = 1_000;
const LOOKS_A_ROOM = 4;

export class ScarceConnections {
  readonly #server: Server;
  readonly #limits: ConnectionLimits;
  /** In the order of their coming. */
  readonly #silent = new Set<Socket>();
  #open = 0;
  #lookedAt = -Infinity;
  #openThen = 0;

  constructor(server: Server, limits: ConnectionLimits) {
    this.#server = server;
    this.#limits = limits;
    server.maxConnections = limits.most;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /** To be called for every request: its connection has something to say. */
  noteRequest(socket: Socket): void {
    this.#silent.delete(socket);
  }

  #accept(socket: Socket): void {
    this.#open++;
    this.#silent.add(socket);
    socket.once('close', () => {
      this.#open--;
      this.#openThen = Math.min(this.#openThen, this.#open);
      this.#silent.delete(socket);
    });
    if (this.#open > this.#limits.plenty) this.#makeRoom(socket);
  }

  #makeRoom(newest: Socket): void {
    const { most, plenty } = this.#limits;
    const grown = this.#open - Math.max(plenty, this.#openThen) > (most - plenty) / LOOKS_A_ROOM;
    if (grown || performance.now() - this.#lookedAt > LOOK_MS) this.#closeIdle();
    const [oldest] = this.#silent;
    if (oldest !== newest) oldest?.destroy();
  }

  #closeIdle(): void {
    this.#lookedAt = performance.now();
    this.#server.closeIdleConnections();
    this.#openThen = this.#open;
  }
}
