// Operator state of sources and sinks as JSON items: small, readable in a snapshot, independent of the code that wrote it.

import { Failure } from "@sluice/kit";
import type { OperatorStateContent, OperatorStateMode } from "../model/index.ts";

/** Name of the operator state in which every source keeps its splits and positions, one item per split. */
export const SOURCE_SPLITS = "source-splits";
/** Name of the operator state in which a file sink keeps what is written and not yet published. */
export const SINK_PENDING = "sink-pending";

/** The values as items of one state; split: each of them goes to one subtask at a restore. */
export function jsonState(values: readonly unknown[], mode: OperatorStateMode = "split"): OperatorStateContent {
  // A copy as of now: the operator goes on changing its own objects.
  return { mode, items: values.map((value) => ({ json: structuredClone(value) })) };
}

/** Inverse of {@link jsonState}; nothing of no state. Failure SNAPSHOT_DAMAGED when an item is no JSON. */
export function jsonValues<T>(state: Pick<OperatorStateContent, "items"> | undefined): readonly T[] {
  return (state?.items ?? []).map((item) => {
    if ("json" in item) return item.json as T;
    throw new Failure("SNAPSHOT_DAMAGED", {
      retry: "never",
      message: "operator state is not the JSON that was written",
      remedy: "restore an older snapshot",
    });
  });
}
