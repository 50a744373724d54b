// Who writes, as it is recorded with every path: enough to answer "who sent this" long after the token is gone.

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
