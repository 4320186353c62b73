// Operator state of sources and sinks as JSON: small, readable in a snapshot, independent of the code that wrote it.

import { isFailure, Failure } from "@sluice/kit";

/** Name of the operator state in which every source keeps its splits and positions. */
export const SOURCE_SPLITS = "source-splits";
/** Name of the operator state in which a file sink keeps what is written and not yet published. */
export const SINK_PENDING = "sink-pending";

export function encodeJsonState(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** Inverse of {@link encodeJsonState}. Failure SNAPSHOT_DAMAGED when it is no JSON. */
export function decodeJsonState<T>(bytes: Uint8Array): T {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as T;
  } catch (thrown) {
    if (isFailure(thrown)) throw thrown;
    throw new Failure("SNAPSHOT_DAMAGED", {
      retry: "never",
      message: "operator state is not the JSON that was written",
      remedy: "restore an older snapshot",
      cause: thrown,
    });
  }
}
