// For tests: operator state of all subtasks, dealt to subtasks of another parallelism as a restore does it.

import { assert } from "@sluice/kit";
import { assignState } from "../checkpoint/index.ts";
import type {
  AttemptNumber,
  CheckpointId,
  Epoch,
  OperatorState,
  OperatorStateContent,
  RestoredOperatorState,
} from "../model/index.ts";

/** What each of `parallelism` subtasks is given of the states that the subtasks before them had stored. */
export function rescaled(
  before: readonly OperatorState[],
  parallelism: number,
): readonly RestoredOperatorState["states"][] {
  const uid = "op";
  const place = { uid, kind: "operator", offset: 0, lengthBytes: 1, crc32c: 0 } as const;
  const vertex = { vertexId: "v", maxParallelism: 128, uids: [uid] };
  const { subtasks } = assignState({
    metadata: {
      checkpointId: 1 as CheckpointId,
      kind: "checkpoint",
      base: "job",
      lineage: "l",
      epoch: 1 as Epoch,
      attempt: 0 as AttemptNumber,
      planDigest: "",
      timestampMs: 0,
      isFinal: false,
      vertices: [
        {
          ...vertex,
          parallelism: before.length,
          subtasks: before.map((states, subtaskIndex) => ({
            subtaskIndex,
            finished: false,
            parts: [...states].map(([stateName, { mode, items }]) => ({
              ...place,
              stateName,
              mode,
              itemCount: items.length,
              object: `${subtaskIndex}`,
            })),
          })),
        },
      ],
    },
    vertices: [{ ...vertex, parallelism, derivesMaxParallelism: false, isKeyed: false, inputVertexIds: [] }],
    unclaimedState: "fail",
  });
  return subtasks.map(({ parts }) => {
    const states = new Map<string, OperatorStateContent>();
    for (const { stateName, object, items } of parts) {
      const stored = before[Number(object)]?.get(stateName);
      assert(stored !== undefined, "a part was stored by a subtask");
      const dealt = states.get(stateName)?.items ?? [];
      states.set(stateName, { ...stored, items: [...dealt, ...stored.items.slice(...(items ?? []))] });
    }
    return states;
  });
}
