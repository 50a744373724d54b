// Tables of the journal (src/cache/recovery/journal.ts): rows that are to be written beside the packs, and how far things got.
import type { Generated } from 'kysely';

export interface JournalTables {
  journal_change: JournalChangeTable;
  journal_state: JournalStateTable;
}

/** Filled by triggers. */
export interface JournalChangeTable {
  id: Generated<number>;
  table_name: string;
  /** JSON array of what names the row. */
  row_key: string;
}

export interface JournalStateTable {
  /** `revision`: of the newest journal blob. `scrub`: id of the last pack that was looked through. */
  name: string;
  value: number;
}
