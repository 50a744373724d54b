// Who writes, as it is recorded with every path: enough to answer "who sent this" long after the token is gone.

/** Identities of upstreams, as writers of what was fetched from them, begin with this. No token's identity holds a colon. */
export const UPSTREAM_WRITER = 'upstream:';

export interface Writer {
  /** Identity: the token's id, or what an identity provider says, such as `github-4711`. Names the writer's overlays. */
  readonly id: string;
  readonly name: string;
  /** Id of the token that was used. */
  readonly token: string;
  readonly claims?: Readonly<Record<string, string>>;
  /** Address of the peer. */
  readonly address?: string;
}
