// Staged uploads in memory, with faults: a call may fail before or after it was done (SU4), and a completion may destroy its upload, as
// MinIO's does when the client dies.
//
// Invariants: SU1-SU5 of kit/env/uploads.ts.

import { assert, Failure } from "@sluice/kit";
import type { ObjectInfo, Rng, StagedUpload, StagedUploads, UploadedPart } from "@sluice/kit/env";

/** What all clients share: the visible objects, and what is on its way. */
export class UploadSpace {
  readonly objects = new Map<string, Uint8Array>();
  readonly #open = new Map<string, Map<number, { readonly bytes: Uint8Array; readonly etag: string }>>();
  readonly #rng: Rng;
  #serial = 0;
  /** Of every call; half of the failing ones have been done. */
  failProbability = 0;
  /** Of every completion: its parts are gone, and no object is there. */
  destroyProbability = 0;

  constructor(rng: Rng) {
    this.#rng = rng;
  }

  /** Uploads that were begun and are neither completed nor aborted. */
  get openCount(): number {
    return this.#open.size;
  }

  client(): StagedUploads {
    return {
      uri: "sim://bucket",
      begin: (path) => this.#call(() => this.#begin(path)),
      putPart: (upload, { number, bytes }) => this.#call(() => this.#putPart(upload, number, bytes.slice())),
      complete: (upload, parts) => this.#call(() => this.#complete(upload, parts)),
      abort: (upload) => this.#call(() => void this.#open.delete(keyOf(upload))),
      list: (prefix) =>
        this.#call(() =>
          [...this.#open.keys()]
            .map((key) => ({
              uploadId: key.slice(0, key.indexOf(" ")),
              path: key.slice(key.indexOf(" ") + 1),
              startedMs: 0,
            }))
            .filter(({ path }) => path.startsWith(prefix))
            .sort((a, b) => (a.path < b.path ? -1 : 1)),
        ),
      sizeOf: (path) => this.#call(() => this.objects.get(path)?.length),
      put: (path, bytes) => this.#call(() => void this.objects.set(path, bytes.slice())),
      copy: (from, to) =>
        this.#call(() => {
          const source = this.objects.get(from);
          if (source === undefined) return "absent";
          this.objects.set(to, source);
          return "copied";
        }),
      remove: (path) => this.#call(() => void this.objects.delete(path)),
      listObjects: (prefix) => this.#call(() => this.list(prefix)),
    };
  }

  /** As a store lists it. */
  list(prefix: string): readonly ObjectInfo[] {
    return [...this.objects]
      .filter(([path]) => path.startsWith(prefix))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, bytes]) => ({ path, sizeBytes: bytes.length, modifiedMs: 0 }));
  }

  async #call<T>(act: () => T): Promise<T> {
    await Promise.resolve();
    if (!this.#rng.chance(this.failProbability)) return act();
    if (this.#rng.chance(0.5)) act();
    throw new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "simulated: no answer" });
  }

  #begin(path: string): StagedUpload {
    this.#serial += 1;
    const upload = { path, uploadId: `upload-${this.#serial}` };
    this.#open.set(keyOf(upload), new Map());
    return upload;
  }

  #putPart(upload: StagedUpload, number: number, bytes: Uint8Array): UploadedPart | "absent" {
    const parts = this.#open.get(keyOf(upload));
    if (parts === undefined) return "absent";
    this.#serial += 1;
    const etag = `etag-${this.#serial}`;
    parts.set(number, { bytes, etag });
    return { number, etag };
  }

  #complete(upload: StagedUpload, parts: readonly UploadedPart[]): "completed" | "absent" {
    const stored = this.#open.get(keyOf(upload));
    if (stored === undefined) return "absent";
    if (this.#rng.chance(this.destroyProbability)) {
      this.#open.delete(keyOf(upload));
      throw new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message: "simulated: the connection broke" });
    }
    const contents = parts.map(({ number, etag }) => {
      const part = stored.get(number);
      assert(part?.etag === etag, "a part is completed as it was stored last");
      return part.bytes;
    });
    this.objects.set(upload.path, new Uint8Array(Buffer.concat(contents)));
    this.#open.delete(keyOf(upload));
    return "completed";
  }
}

function keyOf({ path, uploadId }: StagedUpload): string {
  return `${uploadId} ${path}`;
}
