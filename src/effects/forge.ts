// What Slipway asks of a forge about a branch: who may write to it, and whether its history can be rewritten. One port,
// three adapters (GitHub, GitLab, Forgejo); they only read.

/** What everybody who is not named may do; forges differ in words, not in this. */
export interface BranchProtection {
  /** Some rule of the forge covers the branch. */
  readonly covered: boolean;
  readonly forcePush: 'forbidden' | 'allowed';
  readonly deletion: 'forbidden' | 'allowed';
  /** Who may push, as the forge names them; `everybody`: whoever may write to the repository. */
  readonly pushers: readonly string[] | 'everybody';
  /** Approving reviews that a change needs; 0: none. */
  readonly reviews: number;
}

export interface Forge {
  readonly kind: ForgeKind;
  /** The rules for the branch, whether it exists yet or not. Fails with `unauthorized` when the token may not see them. */
  readProtection(branch: string): Promise<BranchProtection>;
}

export const FORGE_KINDS = ['github', 'gitlab', 'forgejo'] as const;
export type ForgeKind = (typeof FORGE_KINDS)[number];

export interface ForgeAccess {
  /** Root of the API, such as https://api.github.com. */
  readonly api: string;
  /** `owner/name`; on GitLab with all groups. */
  readonly project: string;
  readonly token: string | undefined;
  readonly signal: AbortSignal;
}

export const UNPROTECTED: BranchProtection = {
  covered: false,
  forcePush: 'allowed',
  deletion: 'allowed',
  pushers: 'everybody',
  reviews: 0,
};
