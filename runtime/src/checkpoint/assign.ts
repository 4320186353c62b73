// Hands a checkpoint's parts to the subtasks of a plan, at the parallelism that the plan has now.
//
// Invariants:
//   AG1. Every part is given to at least one subtask, or the restore is refused, or the user allowed exactly that loss: state is
//        never dropped silently.
//   AG2. Keyed parts go by key-group range (Flink: KeyGroupRangeAssignment); a reader keeps the groups of its own range.
//   AG3. State moves by operator uid; which vertex a uid is chained into does not matter.
//   AG4. The number of key groups belongs to the state. A plan in which nobody set it takes it over (otherwise a parallelism that
//        crosses a power of two would orphan all keyed state); one that sets another number is refused.
//   AG5. What a finished subtask had is not given to anybody again: its splits were read.
//
// Not here: operator state in detail (deal.ts), reading parts (state/).

import { Failure } from "@sluice/kit";
import type { CheckpointMetadata, JobPlan, PartHandle, RestorePart } from "../model/index.ts";
import { dealOperatorState } from "./deal.ts";
import type { CheckpointVertex } from "./types.ts";

/** What one subtask restores. */
export interface SubtaskRestore {
  readonly vertexId: string;
  readonly subtaskIndex: number;
  /** It had reached the end of its input: it emits nothing more. */
  readonly finished: boolean;
  readonly parts: readonly RestorePart[];
}

export interface StateAssignment {
  /** One entry per subtask of the plan, in plan order. */
  readonly subtasks: readonly SubtaskRestore[];
  /** Operators of the checkpoint whose state nobody takes: empty unless `unclaimedState` is "drop". */
  readonly droppedUids: readonly string[];
}

type OldVertex = CheckpointMetadata["vertices"][number];

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

/** Failure STATE_INCOMPATIBLE says what does not fit. `vertices` as planned: AG4 is done here. */
export function assignState(options: {
  readonly metadata: CheckpointMetadata;
  readonly vertices: readonly CheckpointVertex[];
  /** "drop": `execution.state-recovery.ignore-unclaimed-state` (Flink: allowNonRestoredState). */
  readonly unclaimedState: "fail" | "drop";
}): StateAssignment {
  const { metadata, unclaimedState } = options;
  const vertices = fitVertices(metadata, options.vertices);
  const plannedUids = new Set(vertices.flatMap((vertex) => vertex.uids));
  const droppedUids = metadata.vertices.flatMap((old) =>
    old.uids.filter((uid) => !plannedUids.has(uid) && partsOf(old, uid).length > 0),
  );
  const [unclaimed] = droppedUids;
  if (unclaimed !== undefined && unclaimedState === "fail") {
    throw incompatible(
      `it has state of operator "${unclaimed}", and the job has no operator with that uid`,
      `give the operator that continues it .uid(${JSON.stringify(unclaimed)}) (a renamed operator keeps its uid), or drop the state for ` +
        "good with --allow-non-restored-state (execution.state-recovery.ignore-unclaimed-state: true)",
    );
  }
  return { subtasks: vertices.flatMap((vertex) => assignVertex(metadata, vertex)), droppedUids };
}

/** AG4: the vertices with the number of key groups that they run with. */
export function fitVertices(
  metadata: CheckpointMetadata | null,
  vertices: readonly CheckpointVertex[],
): readonly CheckpointVertex[] {
  return vertices.map((vertex) => ({ ...vertex, maxParallelism: fittedMaxParallelism(metadata, vertex) }));
}

/** AG4: the plan as it is deployed. Its digest stays that of the planned graph, which is what workers rebuild. */
export function fitPlan(metadata: CheckpointMetadata | null, plan: JobPlan): JobPlan {
  return {
    ...plan,
    vertices: plan.vertices.map((vertex) => ({
      ...vertex,
      maxParallelism: fittedMaxParallelism(metadata, {
        uids: vertex.chain.map(({ uid }) => uid),
        maxParallelism: vertex.maxParallelism,
        derivesMaxParallelism: vertex.derivesMaxParallelism ?? false,
      }),
    })),
  };
}

function fittedMaxParallelism(
  metadata: CheckpointMetadata | null,
  vertex: Pick<CheckpointVertex, "uids" | "maxParallelism" | "derivesMaxParallelism">,
): number {
  if (!vertex.derivesMaxParallelism) return vertex.maxParallelism;
  for (const uid of vertex.uids) {
    const old = oldVertexOf(metadata, uid);
    if (old !== undefined && partsOf(old, uid).some(isKeyed)) return old.maxParallelism;
  }
  return vertex.maxParallelism;
}

function assignVertex(metadata: CheckpointMetadata, vertex: CheckpointVertex): readonly SubtaskRestore[] {
  const { vertexId, parallelism, maxParallelism, uids } = vertex;
  const subtasks = Array.from({ length: parallelism }, (_, subtaskIndex) => ({
    vertexId,
    subtaskIndex,
    finished: false,
    parts: [] as RestorePart[],
  }));
  uids.forEach((uid, inChain) => {
    const old = oldVertexOf(metadata, uid);
    if (old === undefined) return; // a new operator starts empty
    const parts = partsOf(old, uid);
    const keyed = parts.filter(isKeyed);
    if (keyed.length > 0) checkKeyed(uid, old, vertex, inChain);
    const isSame = old.parallelism === parallelism;
    const finished = old.subtasks.filter((subtask) => subtask.finished).length;
    if (finished > 0 && finished < old.parallelism) checkPartlyFinished(uid, parts);
    const before = Array.from({ length: old.parallelism }, (_, subtaskIndex) => {
      const subtask = old.subtasks.find((candidate) => candidate.subtaskIndex === subtaskIndex);
      return { finished: subtask?.finished === true, parts: subtask?.parts.filter((part) => part.uid === uid) ?? [] };
    });
    const dealt = dealOperatorState({
      uid,
      before: before.map((subtask) => subtask.parts.filter((part) => !isKeyed(part))),
      parallelism,
    });
    for (const subtask of subtasks) {
      const { subtaskIndex } = subtask;
      const range = keyGroupRangeOf({ maxParallelism, parallelism, subtaskIndex });
      subtask.parts.push(...(dealt[subtaskIndex] ?? []));
      subtask.parts.push(...keyed.filter((part) => overlaps(part.keyGroups ?? [0, old.maxParallelism - 1], range)));
      if (inChain === 0) {
        // AG5: with another parallelism nobody is one of the old subtasks; what the finished ones had is finished.
        subtask.finished = isSame ? before[subtaskIndex]?.finished === true : finished === old.parallelism;
      }
    }
  });
  return subtasks;
}

function checkKeyed(uid: string, old: OldVertex, vertex: CheckpointVertex, inChain: number): void {
  const { parallelism, maxParallelism } = vertex;
  if (!vertex.isKeyed || inChain > 0) {
    throw incompatible(
      `operator "${uid}" has keyed state, but in this job nothing keys its input`,
      "put keyBy(...) before it again, or give the operator that keeps the keyed state this uid",
    );
  }
  if (old.maxParallelism !== maxParallelism) {
    throw incompatible(
      `operator "${uid}" has keyed state in ${old.maxParallelism} key groups, but the job sets max parallelism ${maxParallelism}`,
      `set max parallelism ${old.maxParallelism} or none: it is fixed for the life of the state`,
    );
  }
  if (parallelism > old.maxParallelism) {
    throw incompatible(
      `operator "${uid}" has keyed state in ${old.maxParallelism} key groups, which cannot be spread over parallelism ${parallelism}`,
      `run with parallelism ${old.maxParallelism} or less`,
    );
  }
}

/** Flink: a union list of which a finished subtask held a part is not whole any more. */
function checkPartlyFinished(uid: string, parts: readonly PartHandle[]): void {
  const union = parts.find((part) => part.mode === "union");
  if (union === undefined) return;
  throw incompatible(
    `operator "${uid}" has union state "${union.stateName}", and some of its subtasks, but not all, had finished`,
    "restore a checkpoint from before the first of them finished",
  );
}

function oldVertexOf(metadata: CheckpointMetadata | null, uid: string): OldVertex | undefined {
  return metadata?.vertices.find((vertex) => vertex.uids.includes(uid));
}

function partsOf(old: OldVertex, uid: string): readonly PartHandle[] {
  return old.subtasks.flatMap((subtask) => subtask.parts.filter((part) => part.uid === uid));
}

function isKeyed(part: PartHandle): boolean {
  return part.kind === "keyed";
}

function overlaps(a: readonly [number, number], b: readonly [number, number]): boolean {
  return a[0] <= b[1] && b[0] <= a[1];
}

function incompatible(message: string, remedy: string): Failure {
  return new Failure("STATE_INCOMPATIBLE", {
    retry: "never",
    message: `the checkpoint does not fit the plan: ${message}`,
    remedy: `${remedy}; or start with --new-lineage without the old state`,
  });
}
