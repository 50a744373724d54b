// Tables of src/auth. A token's secret is never stored, only its SHA-256.
import type { ColumnType, Generated } from 'kysely';

export interface TokenTables {
  access_token: TokenTable;
}

export interface TokenTable {
  /** The public part of `slw_<id>_<secret>`. */
  id: string;
  name: string;
  secret_hash: Uint8Array;
  /** Scopes separated by one space, see src/auth/scope.ts. */
  scopes: string;
  created_at: ColumnType<number, number, never>;
  expires_at: number | null;
  revoked_at: number | null;
  last_used_at: number | null;
  /** Who its holder proved to be, such as `github-4711`; null: the token is its own identity. */
  identity: Generated<string | null>;
  /** JSON of the claims behind that. */
  claims: Generated<string | null>;
}
