// State of subtasks in a test: what one of them held, dealt anew as a restore does.
//
// Invariants: DE1-DE3 of checkpoint/deal.ts; key groups sort themselves (state/backend.ts).

import { assert } from "@sluice/kit";
import { dealOperatorState } from "../checkpoint/index.ts";
import type {
  CheckpointId,
  OperatorState,
  OperatorStateContent,
  PartHandle,
  RestoredOperatorState,
} from "../model/index.ts";
import type { RestoredPart } from "../state/index.ts";

/** State of one subtask at one moment; its contents are for `restore` only. */
export interface OperatorSnapshot {
  readonly checkpointId: number;
  readonly keyed: readonly RestoredPart[];
  readonly operator: OperatorState;
}

export interface DealtSnapshots {
  readonly keyed: readonly RestoredPart[];
  readonly operator: RestoredOperatorState;
}

/** What subtask `subtaskIndex` of `parallelism` gets of the snapshots of all subtasks before, in their order. */
export function dealSnapshots(
  snapshots: readonly OperatorSnapshot[],
  to: { readonly uid: string; readonly subtaskIndex: number; readonly parallelism: number },
): DealtSnapshots {
  const { uid, subtaskIndex, parallelism } = to;
  const before = snapshots.map(({ operator }, i) =>
    [...operator].map(([stateName, { mode, items }]): PartHandle => ({
      uid,
      stateName,
      kind: "operator",
      mode,
      itemCount: items.length,
      object: String(i),
      offset: 0,
      lengthBytes: 0,
      crc32c: 0,
    })),
  );
  const states = new Map<string, OperatorStateContent>();
  for (const part of dealOperatorState({ uid, before, parallelism })[subtaskIndex] ?? []) {
    const content = snapshots[Number(part.object)]?.operator.get(part.stateName);
    assert(content !== undefined, "a part is dealt from a snapshot");
    const [from, end] = part.items ?? [0, content.items.length];
    const items = [...(states.get(part.stateName)?.items ?? []), ...content.items.slice(from, end)];
    states.set(part.stateName, { ...content, items: structuredClone(items) }); // nothing is shared between subtasks
  }
  const checkpointId = Math.max(...snapshots.map((snapshot) => snapshot.checkpointId)) as CheckpointId;
  return {
    keyed: snapshots.flatMap(({ keyed }) => keyed),
    operator: { checkpointId, retractThrough: undefined, states },
  };
}
