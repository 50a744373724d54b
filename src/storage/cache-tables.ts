// Tables of src/cache: caches, the chunks that are held and where, what is made of them, and what is published.
import type { Generated } from 'kysely';

export interface CacheTables {
  cache: CacheTable;
  pack: PackTable;
  chunk: ChunkTable;
  content: ContentTable;
  nar_upload: NarUploadTable;
  store_path: StorePathTable;
  path_conflict: PathConflictTable;
  side_file: SideFileTable;
  path_origin: PathOriginTable;
  cache_chunk: CacheChunkTable;
  staged_chunk: StagedChunkTable;
  lookup_day: LookupDayTable;
}

/** A named set of store paths. Its signing keys are files, never rows (keys/cache-<name>.key). */
export interface CacheTable {
  id: Generated<number>;
  name: string;
  is_public: number;
  /** `Priority` of nix-cache-info: lower is asked first. */
  priority: number;
  store_dir: string;
  /** 1: a path is accepted only when all that it references is in this cache already. */
  closed: number;
  created_at: number;
  /** The cache that this one lies over: an overlay, which one contributor fills. Null for caches of their own. */
  base_id: Generated<number | null>;
  /** Names of keys, separated by one space: clients do not push what is signed by one of them. */
  upstream_keys: Generated<string>;
  /** Public keys, separated by one space: what they signed is published whoever sends it. */
  accepted_keys: Generated<string>;
  /** A contributor's path is published once so many of them hold the same bytes; 0: never by that. */
  agreement: Generated<number>;
  /** How long an unused path is kept; 0: for ever; null: as the server does by default. */
  retention_ms: Generated<number | null>;
  /** What retention counts from: `use` or `age`. */
  retention_by: Generated<'use' | 'age'>;
  /** Most bytes that paths fetched from upstreams may take; null: no limit. */
  borrowed_bytes: Generated<number | null>;
  /** JSON: list of UpstreamConfig (src/api/source-config.ts). */
  upstreams: Generated<string>;
  /** JSON: LocalStoreConfig; null: this machine's store is not served. */
  local_store: Generated<string | null>;
  /** Most bytes of NARs; null: no limit. */
  quota_bytes: Generated<number | null>;
  /** Counts what took published paths back: rendered narinfos of an older epoch are not served. */
  epoch: Generated<number>;
}

/** An immutable blob of frames, see docs/FORMATS.md. */
export interface PackTable {
  id: Generated<number>;
  /** Key in the blob store. */
  blob_key: string;
  size: number;
  created_at: number;
  /**
   * When its last chunk was moved or removed; the blob goes once no reader can be in it any more. 0: it is going; -1: it is
   * gone, and its name stays taken for longer than an upload lasts.
   */
  retired_at: Generated<number | null>;
  /** Of its frames of chunks that were not settled (docs/FORMATS.md); null: nobody has looked. */
  unsettled_bytes: Generated<number | null>;
}

/** A chunk that is held, and the one place where it is: the frame of a pack that it shares with its neighbours. */
export interface ChunkTable {
  /** Its name, see src/content/chunk-identity.ts. */
  hash: Uint8Array;
  pack_id: number;
  frame_offset: number;
  frame_length: number;
  /** CRC-32 (IEEE) of the stored frame: checked before a byte of it is sent. */
  frame_crc: number;
  /** What the frame decodes to. */
  frame_raw_length: number;
  /** Where the chunk begins in that. */
  chunk_offset: number;
  raw_length: number;
  /** When the frame was found missing or broken; the next upload of the chunk replaces it. */
  damaged_at: number | null;
  /** When no content was found to use it. Uploads then store it anew; a commit that uses it clears this. */
  orphaned_at: Generated<number | null>;
}

/** A chunk that some path of a cache was made of when it was pushed in chunks: whoever reads the cache may know of it. */
export interface CacheChunkTable {
  hash: Uint8Array;
  cache_id: number;
}

/** A chunk that a writer has sent for a NAR that is not whole yet. Until it expires, the writer need not send it again. */
export interface StagedChunkTable {
  hash: Uint8Array;
  cache_id: number;
  writer: string;
  expires_at: number;
}

/** Bytes made of chunks: a NAR, a build log, a listing. Identified by their SHA-256. */
export interface ContentTable {
  id: Generated<number>;
  hash: Uint8Array;
  size: number;
  /** The recipe, encoded as in docs/FORMATS.md. */
  recipe: Uint8Array;
  /** For a NAR whose root is a regular file: SHA-256 of that file's contents, for flat content addresses. */
  flat_hash: Uint8Array | null;
  created_at: number;
  /** Set when one of its chunks is damaged; the content then counts as absent. */
  damaged_at: number | null;
}

/**
 * A NAR that arrived by PUT. Until its narinfo comes it is visible to its writer alone and expires;
 * after that, its upload URL keeps answering because clients remember it for 30 days.
 */
export interface NarUploadTable {
  cache_id: number;
  /** As in the URL, for instance `<nix32 sha256>.nar.zst`. */
  file_name: string;
  writer: string;
  content_id: number;
  file_hash: Uint8Array;
  file_size: number;
  created_at: number;
  /** Null once published. */
  expires_at: number | null;
  /** 1: the content is the file itself, not the NAR in it (a compression that is only passed through). */
  verbatim: Generated<number>;
}

/** A published path: what a narinfo is served from. */
export interface StorePathTable {
  cache_id: number;
  /** The 32 characters of the store path's hash part. */
  hash: string;
  store_path: string;
  content_id: number;
  /** Base names, separated by one space. */
  path_references: string;
  deriver: string | null;
  ca: string | null;
  /** Rendered and signed when it was written; served as it is. */
  narinfo: string;
  writer: string;
  created_at: number;
  last_access_at: number;
  /** When its writer was revoked; the path then counts as absent. */
  quarantined_at: Generated<number | null>;
  /** When garbage collection found nothing that keeps the path. It is served until it is removed; being asked for saves it. */
  tombstoned_at: Generated<number | null>;
}

/** One writer's word for a path: who sent these bytes, when, and what it proved about itself. */
export interface PathOriginTable {
  id: Generated<number>;
  cache_id: number;
  hash: string;
  store_path: string;
  nar_hash: string;
  /** Identity of the writer: a token's id, or what an identity provider says, such as `github-4711`. */
  writer: string;
  writer_name: string;
  /** Id of the token that was used. */
  token: string;
  /** `push`, or why a contributor's path was published: `promoted:content-address`, `promoted:signature`, … */
  way: string;
  /** JSON of the claims that an identity provider made about the writer. */
  claims: string | null;
  /** Address of the peer. */
  address: string | null;
  /** The signatures that came with it, separated by one space. */
  signatures: string;
  created_at: number;
}

/** Somebody offered other bytes for a path that is published: not reproducible, or an attack. */
export interface PathConflictTable {
  id: Generated<number>;
  cache_id: number;
  hash: string;
  store_path: string;
  held_nar_hash: string;
  offered_nar_hash: string;
  writer: string;
  created_at: number;
}

/** What else a Nix client stores beside narinfos: build logs, listings, realisations, debug info. */
export interface SideFileTable {
  cache_id: number;
  /** As in the URL, for instance `log/<name>.drv`. */
  name: string;
  content_id: number;
  content_encoding: string | null;
  writer: string;
  updated_at: number;
}

/** How often a cache was asked for narinfos on a day, counted from 1970. */
export interface LookupDayTable {
  cache_id: number;
  day: number;
  hits: number;
  misses: number;
}
