// What is remembered of checkpoints for people.

import { expect, test } from "@jest/globals";
import type { CheckpointId } from "../model/index.ts";
import { CheckpointStatsTracker } from "./stats.ts";

test.each([0, 1, 3, 10])("web.checkpoints.history %i: so many that have ended, newest first", (historyMax) => {
  const stats = new CheckpointStatsTracker([], historyMax);
  for (let n = 1; n <= 12; n += 1) {
    const id = n as CheckpointId;
    stats.triggered(id, { isFinal: false, isSavepoint: false, wallMs: n, subtaskCount: 0 });
    if (n === 11) stats.failed(id, { reason: "it was late", wallMs: n });
    else if (n < 12) stats.completed(id, { externalPath: `chk-${n}`, wallMs: n });
  }
  const { history, counts, latestCompleted, latestFailed } = stats.snapshot();
  const remembered = [12, ...Array.from({ length: historyMax }, (_, i) => 11 - i)]; // 12 is in progress
  expect(history.map(({ id }) => id)).toEqual(remembered);
  expect(counts).toMatchObject({ total: 12, completed: 10, failed: 1, inProgress: 1 });
  expect([latestCompleted?.id, latestFailed?.id]).toEqual([10, 11]); // however little is remembered
});
