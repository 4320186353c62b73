// Hands a checkpoint's parts to the subtasks of a plan.
//
// Invariants:
//   AG1. Every part is given to at least one subtask, or the restore is refused: state is never dropped silently.
//   AG2. Keyed parts go by key-group range (Flink: KeyGroupRangeAssignment); a reader keeps the groups of its own range.
//   AG3. State moves by operator uid; which vertex a uid is chained into does not matter.
//
// Not here: reading parts (state/), repartitioning operator state over another parallelism (refused for now).

import { Failure } from "@sluice/kit";
import type { CheckpointMetadata, PartHandle } from "../model/index.ts";
import type { CheckpointVertex } from "./types.ts";

/** What one subtask restores. */
export interface SubtaskRestore {
  readonly vertexId: string;
  readonly subtaskIndex: number;
  /** It had reached the end of its input: it emits nothing more. */
  readonly finished: boolean;
  readonly parts: readonly PartHandle[];
}

/** Inclusive range of key groups of a subtask (Flink: computeKeyGroupRangeForOperatorIndex). */
export function keyGroupRangeOf(options: {
  readonly maxParallelism: number;
  readonly parallelism: number;
  readonly subtaskIndex: number;
}): readonly [first: number, last: number] {
  const { maxParallelism, parallelism, subtaskIndex } = options;
  const first = Math.floor((subtaskIndex * maxParallelism + parallelism - 1) / parallelism);
  const last = Math.floor(((subtaskIndex + 1) * maxParallelism - 1) / parallelism);
  return [first, last];
}

/** One entry per subtask of the plan, in plan order. Failure STATE_INCOMPATIBLE says what does not fit. */
export function assignState(
  metadata: CheckpointMetadata,
  vertices: readonly CheckpointVertex[],
): readonly SubtaskRestore[] {
  const plannedUids = new Set(vertices.flatMap((vertex) => vertex.uids));
  for (const old of metadata.vertices) {
    for (const uid of old.uids) {
      const hasState = old.subtasks.some((s) => s.parts.some((p) => p.uid === uid));
      if (hasState && !plannedUids.has(uid)) {
        throw incompatible(
          `state of operator "${uid}" has no operator in the new plan`,
          `keep an operator with uid("${uid}")`,
        );
      }
    }
  }
  return vertices.flatMap((vertex) => assignVertex(metadata, vertex));
}

function assignVertex(metadata: CheckpointMetadata, vertex: CheckpointVertex): readonly SubtaskRestore[] {
  const { vertexId, parallelism, maxParallelism } = vertex;
  const subtasks: { vertexId: string; subtaskIndex: number; finished: boolean; parts: PartHandle[] }[] = Array.from(
    { length: parallelism },
    (_, subtaskIndex) => ({ vertexId, subtaskIndex, finished: false, parts: [] }),
  );
  const [headUid] = vertex.uids;
  for (const uid of vertex.uids) {
    const old = metadata.vertices.find((v) => v.uids.includes(uid));
    if (old === undefined) continue; // a new operator starts empty
    const parts = old.subtasks.flatMap((s) => s.parts.filter((p) => p.uid === uid));
    const isKeyed = parts.some((p) => p.kind === "keyed");
    if (isKeyed && old.maxParallelism !== maxParallelism) {
      throw incompatible(
        `operator "${uid}" was written with max parallelism ${old.maxParallelism}, the plan has ${maxParallelism}`,
        `set max parallelism ${old.maxParallelism}`,
      );
    }
    const isSame = old.parallelism === parallelism;
    const isUneven = old.subtasks.some((s) => s.finished) && !old.subtasks.every((s) => s.finished);
    if (!isSame && (parts.some((p) => p.kind === "operator") || isUneven)) {
      throw incompatible(
        `operator "${uid}" ran with parallelism ${old.parallelism}, the plan has ${parallelism}; its non-keyed state cannot be redistributed`,
        `run with parallelism ${old.parallelism}`,
      );
    }
    for (const subtask of subtasks) {
      const { subtaskIndex } = subtask;
      const before = isSame ? old.subtasks.find((s) => s.subtaskIndex === subtaskIndex) : undefined;
      if (uid === headUid)
        subtask.finished = isSame ? before?.finished === true : old.subtasks.every((s) => s.finished);
      const range = keyGroupRangeOf({ maxParallelism, parallelism, subtaskIndex });
      const candidates = isSame ? (before?.parts.filter((p) => p.uid === uid) ?? []) : parts;
      subtask.parts.push(
        ...candidates.filter((p) => isSame || overlaps(p.keyGroups ?? [0, maxParallelism - 1], range)),
      );
    }
  }
  return subtasks;
}

function overlaps(a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] <= b[1] && b[0] <= a[1];
}

function incompatible(message: string, remedy: string): Failure {
  return new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `the checkpoint does not fit the plan: ${message}`,
    remedy: `${remedy}, or start with --new-lineage without the old state`,
  });
}
