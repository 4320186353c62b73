// The table of a second start (docs/internals/commit-log.md), line by line, and the formats of the log and of `_metadata`.

import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import type { CheckpointId, CheckpointMetadata, Epoch } from "../model/index.ts";
import { readCommitRecord, writeCommitRecord } from "./commit-record.ts";
import { readCheckpointMetadata, writeCheckpointMetadata } from "./metadata.ts";
import { decideDamaged, type Damage, regressionChange } from "./recovery.ts";
import { claimedJobState, decideStart, endedBySubmission } from "./start.ts";
import type { CheckpointRef, CommitRecord, RecordedClaim, StartRequest } from "./types.ts";

const ref = (id: number): CheckpointRef => ({
  kind: "checkpoint",
  id: id as CheckpointId,
  path: `j/chk-${id}/_metadata`,
  sha256: "00",
});

const record = (changes: Partial<CommitRecord> = {}): CommitRecord => ({
  formatVersion: 0,
  seq: 7,
  epoch: 2 as Epoch,
  nonce: "n",
  uid: "me",
  lineage: "old",
  submission: "earlier",
  closed: false,
  jobState: "active",
  idHigh: 64,
  planDigest: "p",
  head: ref(9),
  origin: null,
  retained: [ref(7), ref(8), ref(9)],
  condemned: [],
  pins: [],
  ops: [],
  override: null,
  writtenMs: 1,
  ...changes,
});

const LOGS: Readonly<Record<string, CommitRecord | undefined>> = {
  absent: undefined,
  crashed: record(),
  cancelled: record({ jobState: "cancelled" }),
  failed: record({ jobState: "failed" }),
  stopped: record({ jobState: "stopped" }),
  stopping: record({ jobState: "stopping" }),
  draining: record({ jobState: "draining" }),
  finished: record({ jobState: "finished", closed: true }),
  deleted: record({ jobState: "cancelled", closed: true }),
  foreign: record({ uid: "other" }),
  "my own, restarted": record({ lineage: "new" }),
  "my own, finished": record({ lineage: "new", jobState: "finished", closed: true }),
  "stopped by this submission": record({ submission: "new", uid: "me", jobState: "stopped" }),
  "stopping by this submission": record({ submission: "new", uid: "me", jobState: "stopping" }),
  "continued by this submission": record({ submission: "new", uid: "me" }),
  "begun by this one, continued by another": record({ lineage: "new", submission: "later" }),
  "begun by this one, stopped by another": record({ lineage: "new", submission: "later", jobState: "stopped" }),
  "begun by this one, replaced by a newer lineage": record({ lineage: "newer", pastLineages: ["older", "new"] }),
  "begun by this one, replaced, closed": record({ lineage: "newer", pastLineages: ["new"], closed: true }),
};
const condemned = (path: string): RecordedClaim => ({ path, kind: "savepoint", lineage: "o", isCondemned: true });
test.each([
  ["condemned", record({ claim: condemned("j/chk-3") }), "OPERATION_CONFLICT"],
  ["condemned in an earlier lineage", record({ condemnedClaims: [condemned("j/chk-3")] }), "OPERATION_CONFLICT"],
  ["claimed, not condemned", record({ claim: { ...condemned("j/chk-3"), isCondemned: false } }), "new-lineage"],
  ["another one is condemned", record({ claim: condemned("j/chk-4") }), "new-lineage"],
  [
    "condemned, but taken by this submission before",
    record({ lineage: "new", claim: condemned("j/chk-3") }),
    "continue",
  ],
] as const)("SD6: a start from a savepoint of the own log: %s", (_name, head, expected) => {
  const request = { jobName: "j", uid: "me", lineage: "new", newLineage: false, mayCreate: true, from: "j/chk-3" };
  const decision = decideStart(head, request);
  expect(decision.type === "refuse" ? decision.failure.code : decision.type).toBe(expected);
});

const REQUESTS: Readonly<Record<string, Partial<StartRequest>>> = {
  plain: {},
  from: { from: "j/chk-3" },
  "new-lineage": { newLineage: true },
  "may not create": { mayCreate: false },
};

test.each([
  ["absent", undefined, undefined],
  ["running", record({ submission: "mine" }), undefined],
  ["cancelled by this submission", record({ submission: "mine", jobState: "cancelled" }), "cancelled"],
  ["failed in this submission", record({ submission: "mine", jobState: "failed" }), "failed"],
  ["finished in this submission", record({ submission: "mine", jobState: "finished", closed: true }), "finished"],
  ["cancelled by an earlier one: the user runs it again", record({ jobState: "cancelled" }), undefined],
  ["another job's", record({ submission: "mine", uid: "other", jobState: "cancelled" }), undefined],
] as const)("SD3: %s", (_name, head, expected) => {
  expect(endedBySubmission(head, { lineage: "mine", uid: "me" })).toBe(expected);
});

describe("SD1, SD2: the table of a second start", () => {
  test.each([
    ["absent", "create", "create from j/chk-3", "create", "SNAPSHOT_DAMAGED"],
    ["crashed", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["cancelled", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["failed", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["stopped", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["stopping", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["draining", "continue", "new-lineage from j/chk-3", "new-lineage", "continue"],
    ["finished", "JOB_FINISHED", "new-lineage from j/chk-3", "new-lineage", "JOB_FINISHED"],
    ["deleted", "JOB_CLOSED", "new-lineage from j/chk-3", "new-lineage", "JOB_CLOSED"],
    ["foreign", "JOB_FOREIGN", "new-lineage from j/chk-3", "new-lineage", "JOB_FOREIGN"],
    ["my own, restarted", "continue", "continue", "continue", "continue"],
    ["my own, finished", "JOB_FINISHED", "JOB_FINISHED", "JOB_FINISHED", "JOB_FINISHED"],
    ["stopped by this submission", "JOB_CLOSED", "JOB_CLOSED", "JOB_CLOSED", "JOB_CLOSED"],
    ["stopping by this submission", "continue", "continue", "continue", "continue"],
    ["continued by this submission", "continue", "continue", "continue", "continue"],
    ["begun by this one, continued by another", "continue", "continue", "continue", "continue"],
    ["begun by this one, stopped by another", "continue", "continue", "continue", "continue"],
    ["begun by this one, replaced by a newer lineage", "continue", "JOB_CLOSED", "JOB_CLOSED", "continue"],
    ["begun by this one, replaced, closed", "JOB_CLOSED", "JOB_CLOSED", "JOB_CLOSED", "JOB_CLOSED"],
  ])("%s", (log, ...expected) => {
    const found = Object.values(REQUESTS).map((changes) => {
      const request = { jobName: "j", uid: "me", lineage: "new", newLineage: false, mayCreate: true, ...changes };
      const decision = decideStart(LOGS[log], request);
      if (decision.type === "refuse") return decision.failure.code;
      if (decision.type === "continue") return "continue";
      return decision.restoreFrom === null ? decision.type : `${decision.type} from ${decision.restoreFrom}`;
    });
    expect(found).toEqual(expected);
  });
});

describe("what whoever starts the job may ask for besides", () => {
  const decide = (log: CommitRecord | undefined, changes: Partial<StartRequest>): string => {
    const request = { jobName: "j", uid: "me", lineage: "new", newLineage: false, mayCreate: false, ...changes };
    const decision = decideStart(log, request);
    return decision.type === "refuse" ? decision.failure.code : decision.type;
  };

  test.each<readonly [string, Partial<CommitRecord>, string, string, string]>([
    ["open", {}, "JOB_FOREIGN", "continue", "new-lineage"],
    ["cancelled", { jobState: "cancelled" }, "JOB_FOREIGN", "continue", "new-lineage"],
    ["finished", { jobState: "finished", closed: true }, "JOB_FOREIGN", "JOB_FINISHED", "new-lineage"],
    ["deleted", { jobState: "cancelled", closed: true }, "JOB_FOREIGN", "JOB_CLOSED", "new-lineage"],
    ["mine once", { pastUids: ["me", "x"] }, "JOB_FOREIGN", "JOB_FOREIGN", "new-lineage"],
    ["of the same submission's name", { lineage: "new", submission: "new" }, "JOB_FOREIGN", "continue", "new-lineage"],
    ["replaced that lineage", { pastLineages: ["new"] }, "JOB_FOREIGN", "continue", "JOB_CLOSED"],
  ])("SD5: a log of another uid, %s", (_name, changes, ...expected) => {
    const log = record({ uid: "other", ...changes });
    const found = (["refuse", "resume", "newLineage"] as const).map((onForeignLog) => decide(log, { onForeignLog }));
    expect(found).toEqual(expected);
    expect(decide(log, {})).toBe(expected[0]);
  });

  test("SD5: nothing of this makes an own or an absent log another one", () => {
    for (const onForeignLog of ["refuse", "resume", "newLineage"] as const) {
      expect(decide(record(), { onForeignLog })).toBe("continue");
      expect(decide(undefined, { onForeignLog })).toBe("SNAPSHOT_DAMAGED");
      expect(decide(undefined, { onForeignLog, newLineage: true })).toBe("SNAPSHOT_DAMAGED");
    }
  });

  test.each<readonly [string, Partial<CommitRecord>, StartRequest["expectHead"], string]>([
    ["as expected, by id", {}, { id: 9 }, "continue"],
    ["as expected, by path", {}, { path: "j/chk-9/_metadata" }, "continue"],
    ["as expected: none", { head: null, retained: [] }, { id: null }, "continue"],
    ["nothing expected", {}, {}, "continue"],
    ["newer", {}, { id: 8 }, "HEAD_MOVED"],
    ["another of the same id", {}, { id: 9, path: "elsewhere/_metadata" }, "HEAD_MOVED"],
    ["one, where none was", {}, { id: null }, "HEAD_MOVED"],
    ["gone", { head: null, retained: [] }, { id: 9 }, "HEAD_MOVED"],
    ["newer, but by this submission", { submission: "new" }, { id: 8 }, "continue"],
    ["newer, by this submission of another uid", { submission: "new", uid: "other" }, { id: 8 }, "HEAD_MOVED"],
  ])("the head is %s", (_name, changes, expectHead, expected) => {
    expect(decide(record(changes), expectHead === undefined ? {} : { expectHead })).toBe(expected);
  });

  test.each<readonly [string, readonly number[] | undefined, readonly number[] | undefined, string]>([
    ["later", [2, 0, 1], [3, 0, 0], "continue"],
    ["the same process", [2, 0, 1], [2, 0, 1], "continue"],
    ["an earlier process of the same start", [2, 0, 1], [2, 0, 0], "FENCED"],
    ["an earlier start", [2, 0, 0], [1, 9, 9], "FENCED"],
    ["shorter, and earlier", [2, 1], [2], "FENCED"],
    ["not numbered", [2, 0, 0], undefined, "continue"],
    ["numbered for the first time", undefined, [0], "continue"],
  ])("SD4: the start is %s", (_name, recorded, order, expected) => {
    const asked = order === undefined ? {} : { order };
    const log = record(recorded === undefined ? {} : { order: recorded });
    expect(decide(log, asked)).toBe(expected);
    expect(decide({ ...log, submission: "new" }, asked)).toBe(expected);
    expect(decide({ ...log, uid: "other" }, { ...asked, onForeignLog: "resume" })).toBe("continue");
  });
});

test.each([
  ["crashed", "active", "active", "other"],
  ["stopped", "active", "stopped", "other"],
  ["stopping by another submission: it goes on", "active", "stopping", "other"],
  ["stopping by this one: it only publishes", "stopping", "stopping", "mine"],
  ["draining: its input has ended, whoever starts it", "draining", "draining", "other"],
] as const)("SD3, C10: a claim over a log that is %s", (_name, expected, jobState, submission) => {
  const previous = record({ jobState, submission });
  expect(claimedJobState(previous, { type: "continue" }, { lineage: "mine" })).toBe(expected);
  expect(claimedJobState(previous, { type: "new-lineage", lineage: "x", restoreFrom: null }, { lineage: "x" })).toBe(
    "active",
  );
});

describe("formats", () => {
  test("FR1: a record survives the round trip, and no damaged byte does", () => {
    const bytes = writeCommitRecord(record());
    expect(readCommitRecord(bytes)).toEqual({ type: "ok", record: record() });
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const damaged = bytes.slice();
        damaged[at] = (damaged[at] ?? 0) ^ flip;
        expect(readCommitRecord(damaged).type).not.toBe("ok");
      }),
    );
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), (length) =>
        expect(readCommitRecord(bytes.slice(0, length)).type).toBe("damaged"),
      ),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (noise) => expect(readCommitRecord(noise).type).toBe("damaged")),
    );
  });

  test("FR2: golden bytes of the frame", () => {
    const bytes = writeCommitRecord(record({ nonce: "golden" }));
    expect(Buffer.from(bytes.subarray(0, 12)).toString("hex")).toBe("534c43300000000100000222");
    expect(writeCommitRecord(record({ nonce: "golden" }))).toEqual(bytes);
  });

  test("metadata and records are not taken for each other", () => {
    expect(readCheckpointMetadata(writeCommitRecord(record())).type).toBe("damaged");
    const metadata: CheckpointMetadata = {
      checkpointId: 1 as CheckpointId,
      kind: "checkpoint",
      base: "job",
      lineage: "l",
      epoch: 1 as Epoch,
      attempt: 0 as CheckpointMetadata["attempt"],
      planDigest: "p",
      timestampMs: 0,
      isFinal: false,
      vertices: [],
    };
    expect(readCheckpointMetadata(writeCheckpointMetadata(metadata))).toEqual({ type: "ok", metadata });
  });
});

describe("RC2: a damaged newest checkpoint", () => {
  const damage = (kind: "part" | "metadata"): Damage => ({
    ref: ref(9),
    objects: [{ object: "j/chk-9/x", kind, reason: "missing" }],
    metadata: undefined,
  });
  const copies = new Set(["j/chk-9/x"]);
  test.each([
    ["local copies repair parts", "part", true, true, undefined, "repair"],
    ["nothing repairs metadata", "metadata", true, false, undefined, "stop"],
    ["all sinks retract: the newest whole one", "part", false, true, undefined, "rollback 8 all-sinks-retract"],
    ["the user allowed a replay", "part", false, false, 7, "rollback 7 allow-replay"],
    ["of something that is not there", "part", false, false, 3, "stop"],
    ["otherwise stop", "part", false, false, undefined, "stop"],
  ] as const)("%s", (_name, kind, hasCopies, allSinksCanRetract, replay, expected) => {
    const decision = decideDamaged(damage(kind), {
      localCopies: hasCopies ? copies : new Set(),
      allSinksCanRetract,
      allowReplay: replay as CheckpointId | undefined,
      whole: [ref(7), ref(8)],
    });
    expect(decision.type === "rollback" ? `rollback ${decision.to.id} ${decision.reason}` : decision.type).toBe(
      expected,
    );
    if (decision.type !== "stop") return;
    expect(decision.failure.code).toBe("SNAPSHOT_DAMAGED");
    expect(decision.failure.message).toContain("j/chk-9/x (missing)");
    expect(decision.failure.remedy).toContain("restore the damaged objects");
    expect(decision.failure.remedy).toContain(
      "execution.state-recovery.allow-replay to one of the whole older checkpoints: 7, 8",
    );
  });

  test("CL6: a regression is recorded, and what lay above is condemned", () => {
    expect(regressionChange(record({ jobState: "draining" }), ref(7), "all-sinks-retract").jobState).toBe("stopping");
    const change = regressionChange(record(), ref(7), "allow-replay");
    expect(change.head?.id).toBe(7);
    expect(change.retained?.map((r) => r.id)).toEqual([7]);
    expect(change.condemned).toEqual([8, 9]);
    expect(change.override).toEqual({ type: "head-regression", fromId: 9, toId: 7, reason: "allow-replay" });
  });
});
