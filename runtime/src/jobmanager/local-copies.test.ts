// Who holds which local copies, and what a restore used of them.

import { describe, expect, test } from "@jest/globals";

import { checkpointIdOfPath } from "../checkpoint/index.ts";
import { NOTHING_READ } from "../model/index.ts";
import type { CheckpointId, PartHandle, PartsRead } from "../model/index.ts";
import { LocalCopyMap } from "./local-copy-map.ts";
import { RestoreReport } from "./restore-report.ts";

const JOB_DIR = "ns/job";

function part(object: string, lengthBytes: number): PartHandle {
  return { uid: "u", stateName: "s", kind: "operator", object, offset: 0, lengthBytes, crc32c: 0 };
}

describe("who holds copies", () => {
  const parts = [part("chk-2/x-a", 10), part("chk-2/x-b", 20), part("chk-2/x-a", 5)];
  const bytes = (map: LocalCopyMap): object => Object.fromEntries(map.bytesOf(JOB_DIR, parts));

  test("LM1: registrations and acknowledgements add up; a lost TaskManager holds nothing until it registers again", () => {
    const map = new LocalCopyMap();
    map.registered("a", [`${JOB_DIR}/chk-2/x-a`, "other/job/chk-2/x-b"]);
    map.kept("b", [`${JOB_DIR}/chk-2/x-b`]);
    map.kept("a", [`${JOB_DIR}/chk-2/x-b`]);
    expect(bytes(map)).toEqual({ a: 35, b: 20 });
    map.lost("a");
    expect(bytes(map)).toEqual({ b: 20 });
    map.registered("a", [`${JOB_DIR}/chk-2/x-a`]);
    map.registered("b", []);
    expect(bytes(map)).toEqual({ a: 15 });
  });

  test("LM2: what lies below the completed checkpoint is forgotten, and so is what is foreign", () => {
    const map = new LocalCopyMap();
    map.registered("a", [1, 2, 3].map((id) => `${JOB_DIR}/chk-${id}/x-a`).concat("other/chk-9/x"));
    map.completed(2 as CheckpointId, (path) => checkpointIdOfPath(JOB_DIR, path));
    const held = [1, 2, 3].map((id) => map.isHeld(`${JOB_DIR}/chk-${id}/x-a`));
    expect([...held, map.isHeld("other/chk-9/x")]).toEqual([false, true, true, false]);
  });
});

test("RR1, RR2: the summary comes with the last task; a task is local only when the store gave nothing", () => {
  const report = new RestoreReport({ checkpointId: 7 as CheckpointId, startedMs: 100, expectedCount: 4 });
  const add = (vertexId: string, read: Partial<PartsRead>) =>
    report.add(
      { vertexId, subtaskIndex: 0 },
      { ...NOTHING_READ, ...read, restoreMs: 3 },
      { nowMs: 150, wallMs: 9_000 },
    );
  expect(add("local", { localParts: 2, localBytes: 2_048 })).toBeUndefined();
  expect(add("mixed", { localParts: 1, localBytes: 10, storeParts: 1, storeBytes: 20 })).toBeUndefined();
  expect(add("mixed", { localParts: 1, localBytes: 10 })).toBeUndefined(); // said twice
  expect(add("store", { storeParts: 1, storeBytes: 5 })).toBeUndefined();
  expect(add("empty", {})).toEqual({
    checkpointId: 7,
    durationMs: 50,
    finishedAtMs: 9_000,
    localSubtasks: 1,
    localBytes: 2_058,
    storeSubtasks: 2,
    storeBytes: 25,
    tasks: "local/0 local 2 kb, mixed/0 local 10 bytes + store 20 bytes, store/0 store 5 bytes, empty/0 nothing",
  });
});
