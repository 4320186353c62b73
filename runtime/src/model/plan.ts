// The plan: the job's graph as plain data. A child process runs the user's `main` and prints it; JobManager and CLI consume it;
// TaskManagers rebuild it from the same module and compare digests (protocols 6).
//
// Invariants:
//   P1. Everything that decides meaning is in the digest: edges, types, uids, parallelism, frozen arguments, bundle hash.
//   P2. Names, configuration, buffer timeouts and enumerated splits are not in the digest: they may differ between deployments of one
//       graph.

import type { TypeDescriptor } from "./type-descriptor.ts";

/**
 * How records of an edge are spread over the consumer's subtasks (Flink's names): FORWARD to the same subtask, HASH by key, REBALANCE
 * in turns, RESCALE in turns within a group of subtasks, SHUFFLE by chance, GLOBAL to subtask 0, BROADCAST to all, CUSTOM by a function.
 */
export type Partitioning = "FORWARD" | "HASH" | "REBALANCE" | "RESCALE" | "SHUFFLE" | "GLOBAL" | "BROADCAST" | "CUSTOM";

/**
 * Whether an edge has a channel between these two subtasks. Barriers and the end travel on every channel, so edges that choose a
 * subtask per record connect all; RESCALE groups as Flink does: contiguous groups of the larger side, one per subtask of the smaller.
 */
export function connects(
  edge: { readonly partitioning: Partitioning; readonly sources: number; readonly targets: number },
  source: number,
  target: number,
): boolean {
  const { partitioning, sources, targets } = edge;
  if (partitioning === "FORWARD") return source === target;
  if (partitioning !== "RESCALE") return true;
  return sources >= targets
    ? source >= Math.floor((target * sources) / targets) && source < Math.floor(((target + 1) * sources) / targets)
    : target >= Math.ceil((source * targets) / sources) && target < Math.ceil(((source + 1) * targets) / sources);
}

export interface PlanOperator {
  /** Index of the transformation in the rebuilt graph: how a worker finds the user's function. */
  readonly transformationId: number;
  readonly name: string;
  /** A longer text for people than the name. */
  readonly description?: string;
  readonly uid: string;
  readonly kind: "source" | "oneInput" | "twoInput" | "sink";
  readonly stateful: boolean;
  /** True when the sink can hide output of checkpoints above a given id (protocols 1: damaged newest checkpoint). */
  readonly canRetract?: boolean;
}

/** A chain of operators that run in one task. */
export interface PlanVertex {
  /** 32 hex digits, derived from the head's uid: stable over redeployments (Flink: JobVertexID). */
  readonly id: string;
  readonly name: string;
  readonly parallelism: number;
  readonly maxParallelism: number;
  /** True: nobody set maxParallelism, it follows from the parallelism. State that is restored then decides it (not in the digest). */
  readonly derivesMaxParallelism?: boolean;
  /** Head first. */
  readonly chain: readonly PlanOperator[];
  /** Inputs in order; `inputIndex` 0 or 1 tells a two-input head which side an edge feeds. */
  readonly inputs: readonly PlanEdge[];
  /** Source splits frozen at planning (P2), opaque to all but the source; empty for other vertices. */
  readonly splits: readonly unknown[];
  /** Key type of a keyed head. */
  readonly keyType?: TypeDescriptor;
  /** Longest wait of a record in a batch that is not full, when it is not the job's; -1: until it is full. */
  readonly bufferTimeoutMs?: number;
}

export interface PlanEdge {
  readonly id: number;
  readonly sourceVertexId: string;
  readonly targetVertexId: string;
  readonly inputIndex: 0 | 1;
  readonly partitioning: Partitioning;
  readonly type: TypeDescriptor;
  /** Key type of a HASH edge. */
  readonly keyType?: TypeDescriptor;
  /** Set when the edge carries a side output, of that operator of the source vertex. */
  readonly sideOutput?: SideOutputRef;
}

/** A side output: of which operator, and the id of its tag. */
export interface SideOutputRef {
  readonly transformationId: number;
  readonly tag: string;
}

export interface JobPlan {
  readonly formatVersion: 0;
  readonly jobName: string;
  /** sha256 hex over the canonical JSON of what P1 lists. */
  readonly digest: string;
  readonly arguments: readonly string[];
  /** Values of the job's declared parameters; absent: it declared none. */
  readonly parameters?: Readonly<Record<string, string | number | boolean>>;
  readonly environment?: PlanEnvironment;
  /** Effective Flink-named configuration: defaults left out, code over -D over file. */
  readonly configuration: Readonly<Record<string, string>>;
  /** In topological order. */
  readonly vertices: readonly PlanVertex[];
}

/** Environment variables that the job declared. */
export interface PlanEnvironment {
  /** As they were at planning. */
  readonly values: Readonly<Record<string, string>>;
  /** Read on the TaskManager, never stored. */
  readonly secrets: readonly { readonly name: string; readonly optional: boolean }[];
}
