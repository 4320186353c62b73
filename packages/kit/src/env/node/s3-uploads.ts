// Staged uploads on S3 or MinIO: multipart uploads.
//
// Invariants (besides SU1-SU4 of ../uploads.ts): M1, M3, M4 of s3-calls.ts, and
//   MU1. Completing is the only call whose success may show as "absent" the next time; everything else is repeated as it is.
//   MU2. (SU5) A copy is one CopyObject. Amazon's answers 200 before it has ended, with an error in the body: only a result with an ETag is
//        a copy. MinIO's writes a temporary object first and renames it last (cmd/erasure-object.go): it never opens the source for writing.

import { assert } from "../../assert.ts";
import { Failure, isFailure } from "../../failure.ts";
import type { ObjectInfo } from "../storage.ts";
import { COPY_BYTES_MAX, UPLOAD_PARTS_MAX } from "../uploads.ts";
import type { IncompleteUpload, StagedUpload, StagedUploads, UploadedPart } from "../uploads.ts";
import { asBuffer, PART_BYTES, S3Calls } from "./s3-calls.ts";
import type { Call, Run, S3StoreOptions } from "./s3-calls.ts";
import { S3ObjectStore } from "./s3-store.ts";

interface ListedUpload {
  readonly key: string;
  readonly uploadId: string;
  readonly initiated: Date;
}

export class S3StagedUploads implements StagedUploads {
  readonly uri: string;
  readonly #calls: S3Calls;
  readonly #store: S3ObjectStore;

  /** `prefix`: without slashes around it, may be empty. Throws CONFIG_INVALID for an endpoint that is none. */
  constructor(target: { readonly bucket: string; readonly prefix: string }, options: S3StoreOptions) {
    this.#calls = new S3Calls(target, options);
    this.#store = new S3ObjectStore(target, options);
    this.uri = this.#calls.uri;
  }

  /** One that was begun without an answer stays behind, empty. */
  async begin(path: string, signal?: AbortSignal): Promise<StagedUpload> {
    const call: Call = { verb: "begin the upload of", path, signal, sizeBytes: 0, idempotent: true };
    const uploadId = await this.#done(call, (client, key) =>
      client.initiateNewMultipartUpload(this.#calls.bucket, key, {}),
    );
    return { path, uploadId };
  }

  async putPart(
    upload: StagedUpload,
    part: { readonly number: number; readonly bytes: Uint8Array },
    signal?: AbortSignal,
  ): Promise<UploadedPart | "absent"> {
    const { path, uploadId } = upload;
    const { number, bytes } = part;
    assert(
      Number.isInteger(number) && number >= 1 && number <= UPLOAD_PARTS_MAX,
      "parts are numbered from 1 to 10,000",
    );
    const call: Call = { verb: "upload a part of", path, signal, sizeBytes: bytes.length, idempotent: true };
    return await this.#done(call, async (client, key) => {
      const target = { bucketName: this.#calls.bucket, objectName: key, uploadID: uploadId, partNumber: number };
      try {
        const { etag } = await client.uploadPart({ ...target, headers: {} }, asBuffer(bytes));
        return { number, etag };
      } catch (error) {
        return absentOrThrow(error);
      }
    });
  }

  async complete(
    upload: StagedUpload,
    parts: readonly UploadedPart[],
    signal?: AbortSignal,
  ): Promise<"completed" | "absent"> {
    const { path, uploadId } = upload;
    assert(parts.length > 0, "an object has at least one part");
    const call: Call = {
      verb: "complete the upload of",
      path,
      signal,
      sizeBytes: 0,
      idempotent: true,
      outlivesClient: true, // M5 of s3-calls.ts
    };
    return await this.#done(call, async (client, key) => {
      try {
        const etags = parts.map(({ number, etag }) => ({ part: number, etag }));
        await client.completeMultipartUpload(this.#calls.bucket, key, uploadId, etags);
        return "completed" as const;
      } catch (error) {
        // Parts that were stored are gone: MinIO deletes their records before it makes the object, and stops there when the client's
        // connection breaks (cmd/erasure-multipart.go). Nobody can complete it any more.
        if ((error as { readonly code?: unknown }).code === "InvalidPart") return "absent";
        return absentOrThrow(error);
      }
    });
  }

  async abort(upload: StagedUpload, signal?: AbortSignal): Promise<void> {
    const { path, uploadId } = upload;
    const call: Call = { verb: "abort the upload of", path, signal, sizeBytes: 0, idempotent: true };
    await this.#done(call, async (client, key) => {
      try {
        await client.abortMultipartUpload(this.#calls.bucket, key, uploadId);
      } catch (error) {
        absentOrThrow(error);
      }
    });
  }

  async sizeOf(path: string, signal?: AbortSignal): Promise<number | undefined> {
    return (await this.#store.stat(path, signal))?.sizeBytes;
  }

  async put(path: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    if ((await this.#store.put(path, bytes, signal)) === "stored") return;
    throw new Failure("STORAGE_UNAVAILABLE", {
      retry: "backoff",
      message: `write ${this.uri}/${path}: no answer, it may or may not be there`,
      remedy: "Check that the store runs and can be reached; it is tried again.",
    });
  }

  async copy(from: string, to: string, sizeBytes: number, signal?: AbortSignal): Promise<"copied" | "absent"> {
    assert(sizeBytes <= COPY_BYTES_MAX, "one copy takes at most 5 GiB");
    const { bucket, keyPrefix } = this.#calls;
    const call: Call = { verb: "copy to", path: to, signal, sizeBytes, idempotent: true };
    const copied = await this.#calls.found(call, async (client, key) => {
      const { etag } = (await client.copyObject(bucket, key, `/${bucket}/${keyPrefix}${from}`)) as { etag?: string };
      if (etag === undefined || etag === "") throw new Error("the copy was answered without an ETag"); // MU2: ambiguous
      return "copied" as const;
    });
    return copied ?? "absent";
  }

  async remove(path: string, signal?: AbortSignal): Promise<void> {
    await this.#store.remove(path, signal);
  }

  async listObjects(prefix: string, signal?: AbortSignal): Promise<readonly ObjectInfo[]> {
    return await this.#store.list(prefix, signal);
  }

  /**
   * Asked twice: Amazon lists by prefix; MinIO takes a prefix for the whole name of one object, and lists a bucket only without any (read in
   * its cmd/erasure-server-pool.go).
   */
  async list(prefix: string, signal?: AbortSignal): Promise<readonly IncompleteUpload[]> {
    const { keyPrefix } = this.#calls;
    const wanted = `${keyPrefix}${prefix}`;
    const found = new Map<string, IncompleteUpload>();
    for (const asked of new Set([wanted, ""])) {
      for (const { key, uploadId, initiated } of await this.#listed(asked, prefix, signal)) {
        if (!key.startsWith(wanted)) continue;
        const upload = { path: key.slice(keyPrefix.length), uploadId, startedMs: initiated.getTime() };
        found.set(`${uploadId} ${key}`, upload);
      }
    }
    return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  }

  async #listed(asked: string, path: string, signal: AbortSignal | undefined): Promise<readonly ListedUpload[]> {
    const call: Call = { verb: "list", path, signal, sizeBytes: PART_BYTES, idempotent: true };
    return await this.#done(call, async (client) => {
      const listed: ListedUpload[] = [];
      let [keyMarker, uploadIdMarker] = ["", ""];
      for (;;) {
        const page = await client.listIncompleteUploadsQuery(this.#calls.bucket, asked, keyMarker, uploadIdMarker, "");
        listed.push(...page.uploads);
        const next = [page.nextKeyMarker, page.nextUploadIdMarker] as const;
        // A page that says that there is more, and not where, would be read for ever.
        if (!page.isTruncated || (next[0] === keyMarker && next[1] === uploadIdMarker)) return listed;
        [keyMarker, uploadIdMarker] = next;
      }
    });
  }

  /** SU4: every one of these calls may be repeated, so an ambiguous end is a failure like any other. */
  async #done<T>(call: Call, run: Run<T>): Promise<T> {
    const result = await this.#calls.call(call, run);
    if (result.type === "done") return result.value;
    throw result.failure;
  }
}

function absentOrThrow(error: unknown): "absent" {
  if (!isFailure(error) && (error as { readonly code?: unknown }).code === "NoSuchUpload") return "absent";
  throw error;
}
