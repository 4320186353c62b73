// Staged uploads that try again: a sink's calls go on until the store answers, or the attempt ends.
//
// Invariants:
//   RU1. Only failures that say `backoff` or `now` are tried again; every call may be repeated (SU3 of kit/env/uploads.ts).

import type { Log, Rng, StagedUploads, Timers } from "@sluice/kit/env";
import { retryStorage } from "../checkpoint/index.ts";

const NEVER = new AbortController().signal;

export function retryingUploads(
  uploads: StagedUploads,
  env: { readonly timers: Timers; readonly rng: Rng; readonly log: Log },
): StagedUploads {
  const again = <T>(label: string, signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> =>
    retryStorage(env, signal ?? NEVER, label, call);
  return {
    uri: uploads.uri,
    begin: (path, signal) => again("upload-begin", signal, () => uploads.begin(path, signal)),
    putPart: (upload, part, signal) => again("upload-part", signal, () => uploads.putPart(upload, part, signal)),
    complete: (upload, parts, signal) =>
      again("upload-complete", signal, () => uploads.complete(upload, parts, signal)),
    abort: (upload, signal) => uploads.abort(upload, signal), // a courtesy, tried once
    list: (prefix, signal) => again("upload-list", signal, () => uploads.list(prefix, signal)),
    sizeOf: (path, signal) => again("object-stat", signal, () => uploads.sizeOf(path, signal)),
    put: (path, bytes, signal) => again("object-put", signal, () => uploads.put(path, bytes, signal)),
    copy: (from, to, sizeBytes, signal) =>
      again("object-copy", signal, () => uploads.copy(from, to, sizeBytes, signal)),
    remove: (path, signal) => again("object-remove", signal, () => uploads.remove(path, signal)),
    listObjects: (prefix, signal) => again("object-list", signal, () => uploads.listObjects(prefix, signal)),
  };
}
