// Staged uploads: objects that appear as a whole when their writer says so (S3: multipart uploads), and copies inside the store.
//
// Invariants:
//   SU1. Nothing of an upload is visible before `complete`; afterwards all of it is, at once.
//   SU2. A stored part is durable: `complete` may come from another process, much later, as long as nobody aborted the upload.
//   SU3. Every call may be repeated: a part replaces the part of its number, a completed or aborted upload is "absent".
//   SU4. `absent` is only what the store said. What may or may not have happened rejects with retry `backoff`: ask again.
//   SU5. `copy` never changes its source, and its destination is the whole copy or what it was before, whenever the client dies. The same is
//        NOT promised of `complete`: on MinIO a client that dies inside it can destroy the upload. Nothing that must not be lost may
//        depend on a `complete` that has not been answered (docs/design/0021-publishing-on-object-stores.md).
//
// Not here: when an upload is completed (the sinks' protocol). What nobody completes or aborts lies in the store invisibly, until somebody
// lists and aborts it (`sluice store`), or the store's own rule deletes it: MinIO does after 24 h, a bucket of Amazon needs a lifecycle rule.

import type { ObjectInfo } from "./storage.ts";

/** Smallest part that is not the last of its upload (S3's limit). */
export const UPLOAD_PART_BYTES_MIN = 5 * 1024 * 1024;
/** Most parts of an upload (S3's limit). */
export const UPLOAD_PARTS_MAX = 10_000;

/** Largest object that one copy takes (S3's limit). */
export const COPY_BYTES_MAX = 5 * 1024 * 1024 * 1024;

/** An upload that was begun. Plain data: it travels in operator state. */
export interface StagedUpload {
  /** Of the object, relative to the root. */
  readonly path: string;
  readonly uploadId: string;
}

/** An upload that was neither completed nor aborted. */
export interface IncompleteUpload extends StagedUpload {
  /** Wall clock of the store, milliseconds. */
  readonly startedMs: number;
}

/** A part that is stored. */
export interface UploadedPart {
  /** From 1, in the order of the object's bytes. */
  readonly number: number;
  readonly etag: string;
}

/** Failures as for ObjectStore: STORAGE_UNAVAILABLE, STORAGE_FULL (backoff), STORAGE_DENIED, CONFIG_INVALID (never). */
export interface StagedUploads {
  /** `s3://bucket/prefix`, for messages. */
  readonly uri: string;
  begin(path: string, signal?: AbortSignal): Promise<StagedUpload>;
  /** At least {@link UPLOAD_PART_BYTES_MIN}, but for the last one. "absent": there is no such upload (any more). */
  putPart(
    upload: StagedUpload,
    part: { readonly number: number; readonly bytes: Uint8Array },
    signal?: AbortSignal,
  ): Promise<UploadedPart | "absent">;
  /** Makes the object of these parts, which is at least one. "absent": completed, aborted or destroyed before; {@link sizeOf} tells which. */
  complete(upload: StagedUpload, parts: readonly UploadedPart[], signal?: AbortSignal): Promise<"completed" | "absent">;
  /** Absent is success. */
  abort(upload: StagedUpload, signal?: AbortSignal): Promise<void>;
  /**
   * Incomplete uploads whose path begins with `prefix`, ascending by path. What it lists was there; some may be missing: MinIO remembers the
   * names of those only that were begun since it was started.
   */
  list(prefix: string, signal?: AbortSignal): Promise<readonly IncompleteUpload[]>;
  /** Size in bytes of the object that is visible under this path; undefined: there is none. */
  sizeOf(path: string, signal?: AbortSignal): Promise<number | undefined>;
  /** Stores a small object by one call, at once; it replaces what is there. */
  put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Copies an object of `sizeBytes`, at most {@link COPY_BYTES_MAX}, inside the store (SU5); it replaces what is there. "absent": no source.
   */
  copy(from: string, to: string, sizeBytes: number, signal?: AbortSignal): Promise<"copied" | "absent">;
  /** Deletes an object. Absent is success. */
  remove(path: string, signal?: AbortSignal): Promise<void>;
  /** Visible objects whose path begins with `prefix`, ascending by path. */
  listObjects(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]>;
}
