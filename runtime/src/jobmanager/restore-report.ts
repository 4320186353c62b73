// How the tasks of an attempt came by their state: from local copies or from the store, and how long it took.
//
// Invariants (tests cite them):
//   RR1. There is a summary once every task of the attempt has said how it was restored, and not before.
//   RR2. A task counts as local only if nothing of it came from the store; one without state counts as neither.

import { formatBytes } from "@sluice/kit";
import type { CheckpointId, SubtaskId, TaskRestored } from "../model/index.ts";
import { subtaskKey } from "../model/index.ts";
import type { RestoreSummary } from "./rest/source.ts";

/** Tasks named in the log; the rest are in the sums, and each TaskManager's /metrics has its own. */
const TASKS_SHOWN_MAX = 32;

export class RestoreReport {
  readonly #checkpointId: CheckpointId;
  readonly #startedMs: number;
  readonly #expectedCount: number;
  readonly #tasks = new Map<string, TaskRestored>();

  constructor(options: {
    readonly checkpointId: CheckpointId;
    /** Monotonic. */
    readonly startedMs: number;
    readonly expectedCount: number;
  }) {
    this.#checkpointId = options.checkpointId;
    this.#startedMs = options.startedMs;
    this.#expectedCount = options.expectedCount;
  }

  /** The summary with the last task (RR1), else undefined. */
  add(
    subtask: SubtaskId,
    restored: TaskRestored,
    now: { readonly nowMs: number; readonly wallMs: number },
  ): RestoreSummary | undefined {
    const key = subtaskKey(subtask);
    if (this.#tasks.has(key)) return undefined;
    this.#tasks.set(key, restored);
    if (this.#tasks.size < this.#expectedCount) return undefined;
    let [localSubtasks, localBytes, storeSubtasks, storeBytes] = [0, 0, 0, 0];
    for (const task of this.#tasks.values()) {
      localBytes += task.localBytes;
      storeBytes += task.storeBytes;
      if (task.storeParts > 0)
        storeSubtasks += 1; // RR2
      else if (task.localParts > 0) localSubtasks += 1;
    }
    const shown = [...this.#tasks].slice(0, TASKS_SHOWN_MAX).map(([of, task]) => `${of} ${describeRestored(task)}`);
    const more = this.#tasks.size - shown.length;
    return {
      checkpointId: this.#checkpointId,
      durationMs: now.nowMs - this.#startedMs,
      finishedAtMs: now.wallMs,
      localSubtasks,
      localBytes,
      storeSubtasks,
      storeBytes,
      tasks: [...shown, ...(more > 0 ? [`${more} more`] : [])].join(", "),
    };
  }
}

function describeRestored({ localParts, localBytes, storeParts, storeBytes }: TaskRestored): string {
  const from = [
    ...(localParts > 0 ? [`local ${formatBytes(localBytes)}`] : []),
    ...(storeParts > 0 ? [`store ${formatBytes(storeBytes)}`] : []),
  ];
  return from.length === 0 ? "nothing" : from.join(" + ");
}
