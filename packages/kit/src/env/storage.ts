// Object store (durable, shared) and disk (this process's own, may vanish).
//
// Invariants:
//   S1. A path is written once with one content, or by `put` with the same bytes again; nobody overwrites with others.
//   S2. `unknown` means that the write may or may not have happened; the caller asks by reading, or repeats the same bytes.
//   S3. Reads after a known write see it (strong consistency, as S3, GCS, MinIO and HDFS give today); `list` as well.
//   S4. Nothing durable lives on a Disk.

/** Largest object for `putIfAbsent`: stores ignore the condition on multipart uploads (protocols 1). */
export const CONDITIONAL_BYTES_MAX = 32 * 1024 * 1024;

export type PutOutcome = "stored" | "unknown";
export type PutIfAbsentOutcome = "created" | "exists" | "unknown";

export interface ObjectInfo {
  /** Full path inside the store, '/'-separated, no leading '/'. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Wall clock of the store, milliseconds. */
  readonly modifiedMs: number;
}

/**
 * Paths are relative to the store's root, '/'-separated. Definite failures reject with a Failure:
 * STORAGE_UNAVAILABLE (backoff), STORAGE_FULL (backoff), STORAGE_DENIED (never). "Not found" is `undefined`, and only when
 * the store said so: a timeout or a 403 is never "not found".
 */
export interface ObjectStore {
  /** `file:///dir` or `s3://bucket/prefix`, for messages and metadata. */
  readonly uri: string;
  get(path: string, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Bytes [offset, offset + lengthBytes); shorter only at the end of the object. */
  getRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
    signal?: AbortSignal,
  ): Promise<Uint8Array | undefined>;
  put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutOutcome>;
  /** Creates once; at most 32 MiB (protocols 1: larger goes multipart, where the condition is ignored). */
  putIfAbsent(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<PutIfAbsentOutcome>;
  stat(path: string, signal?: AbortSignal): Promise<ObjectInfo | undefined>;
  /** All objects whose path starts with `prefix`, ascending by path. */
  list(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]>;
  /** Absent is success. */
  remove(path: string, signal?: AbortSignal): Promise<void>;
}

/** This process's scratch disk, rooted at its own directory. Failures: DISK_FULL, DISK_FAILED. */
export interface Disk {
  read(path: string): Promise<Uint8Array | undefined>;
  /** Bytes [offset, offset + lengthBytes); shorter only at the end of the file. */
  readRange(
    path: string,
    range: { readonly offset: number; readonly lengthBytes: number },
  ): Promise<Uint8Array | undefined>;
  /**
   * Whole file out of its pieces, through a temporary name; a crash leaves the old one or the new one (checksums find torn ones).
   * The pieces must not change before the answer.
   */
  write(path: string, pieces: readonly Uint8Array[]): Promise<void>;
  list(prefix: string): Promise<readonly ObjectInfo[]>;
  remove(path: string): Promise<void>;
}
