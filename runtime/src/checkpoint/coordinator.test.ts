// The coordinator's decisions as scripts: one helper speaks to the pure core, every case is a line.

import { describe, expect, test } from "@jest/globals";
import { Failure } from "@sluice/kit";
import type { AttemptNumber, CheckpointId, Epoch } from "../model/index.ts";
import { commitChange } from "./commit-change.ts";
import {
  type CoordinatorEffect,
  type CoordinatorEvent,
  type CoordinatorState,
  describeSubtask,
  initialCoordinatorState,
  subtaskKeyOf,
} from "./coordinator-state.ts";
import { step } from "./coordinator.ts";
import { type CheckpointConfig, type CheckpointRef, type CommitRecord, DEFAULT_CHECKPOINT_CONFIG } from "./types.ts";

const EPOCH = 3 as Epoch;
const TASKS = { a: { vertexId: "source", subtaskIndex: 0 }, b: { vertexId: "sink", subtaskIndex: 0 } } as const;
const VERTICES = [
  {
    vertexId: "source",
    parallelism: 1,
    maxParallelism: 128,
    derivesMaxParallelism: false,
    isKeyed: false,
    uids: ["source"],
    inputVertexIds: [],
  },
  {
    vertexId: "sink",
    parallelism: 1,
    maxParallelism: 128,
    derivesMaxParallelism: false,
    isKeyed: false,
    uids: ["sink"],
    inputVertexIds: ["source"],
  },
];

const ref = (id: number): CheckpointRef => ({
  kind: "checkpoint",
  id: id as CheckpointId,
  path: `j/chk-${id}/_metadata`,
  sha256: "0",
});

const claimed: CommitRecord = {
  formatVersion: 0,
  seq: 1,
  epoch: EPOCH,
  nonce: "n",
  uid: "u",
  lineage: "l",
  submission: "earlier",
  closed: false,
  jobState: "active",
  idHigh: 64,
  planDigest: "p",
  head: null,
  origin: null,
  retained: [],
  condemned: [],
  pins: [],
  ops: [],
  override: null,
  writtenMs: 0,
};

const savepointRef = (id: number): CheckpointRef => ({ ...ref(id), kind: "savepoint", path: `s${id}/_metadata` });

function triggerWord({ trigger, savepoint }: Extract<CoordinatorEffect, { readonly type: "trigger" }>): string {
  if (savepoint === null) return trigger.barrier.isFinal ? "final" : "trigger";
  expect(trigger.barrier).toMatchObject({
    isFinal: savepoint.stops === "drain",
    savepoint: { location: savepoint.location, stops: savepoint.stops !== "no" },
  });
  return ({ no: "savepoint", suspend: "stop", drain: "drain" } as const)[savepoint.stops];
}

/** Runs a script; the answer lists effects as words. Time only moves by `+n`. */
class Player {
  state: CoordinatorState;
  record: CommitRecord = claimed;
  nowMs = 0;
  nextId = 1;
  readonly #lastCommit = new Map<number, Extract<CoordinatorEffect, { readonly type: "commit" }>>();

  constructor(config: Partial<CheckpointConfig>) {
    const all = { ...DEFAULT_CHECKPOINT_CONFIG, intervalMs: 100, timeoutMs: 1_000, ...config };
    this.state = initialCoordinatorState({ config: all, vertices: VERTICES, claimed });
  }

  play(script: string): string {
    return script
      .split(" ")
      .flatMap((word) => this.#word(word))
      .join(" ");
  }

  #word(word: string): readonly string[] {
    const [verb = "", n = "0"] = word.split(":");
    const id = Number(n) as CheckpointId;
    if (verb.startsWith("+")) {
      this.nowMs += Number(verb.slice(1));
      return this.#step({ type: "tick" });
    }
    switch (verb) {
      case "start":
        return this.#step({
          type: "attemptStarted",
          attempt: 0 as AttemptNumber,
          vertices: VERTICES,
          initialDelayMs: 100,
          isStopping: false,
        });
      case "up":
        return [
          ...this.#step({ type: "taskRunning", subtask: TASKS.a }),
          ...this.#step({ type: "taskRunning", subtask: TASKS.b }),
        ];
      case "a":
      case "b":
        return this.#step({ type: "acked", ack: this.#ack(verb, id, EPOCH, 0) });
      case "old-epoch":
        return this.#step({ type: "acked", ack: this.#ack("a", id, 2 as Epoch, 0) });
      case "old-attempt":
        return this.#step({ type: "acked", ack: this.#ack("a", id, EPOCH, 7) });
      case "decline":
      case "superseded": {
        const reason = verb === "decline" ? ("async-failure" as const) : ("superseded" as const);
        const of = { checkpointId: id, epoch: EPOCH, attempt: 0 as AttemptNumber, subtask: TASKS.b };
        return this.#step({ type: "declined", decline: { ...of, reason, message: "why" } });
      }
      case "written":
        return this.#step({ type: "metadataWritten", ref: ref(id) });
      case "saved":
        return this.#step({ type: "metadataWritten", ref: savepointRef(id) });
      case "committed": {
        const commit = this.#lastCommit.get(id);
        if (commit === undefined) throw new Error("nothing to commit");
        const change = commitChange(this.record, commit, { retainedMax: this.state.config.retainedMax, wallMs: 0 });
        this.record = { ...this.record, ...change, seq: this.record.seq + 1 };
        return this.#step({ type: "committed", id, record: this.record });
      }
      case "uncommitted": {
        const failure = new Failure("STORAGE_FULL", { retry: "backoff", message: "full" });
        return this.#step({ type: "commitFailed", id, failure });
      }
      case "savepoint":
      case "stop":
      case "drain": {
        const stops = ({ savepoint: "no", stop: "suspend", drain: "drain" } as const)[verb];
        const request = {
          token: id,
          location: `mem://store/s${id}`,
          stops,
          operationId: verb === "savepoint" ? null : "op",
        };
        return this.#step({ type: "savepointRequested", request });
      }
      case "ask":
        return this.#step({ type: "triggerRequested" });
      case "overdue":
        return this.#step({ type: "savepointOverdue", token: id });
      case "restart":
        return this.#step({
          type: "attemptStarted",
          attempt: 0 as AttemptNumber,
          vertices: VERTICES,
          initialDelayMs: 100,
          isStopping: this.record.jobState === "stopping",
        });
      case "expire":
        return this.#step({ type: "timedOut", id });
      case "ended":
        return this.#step({ type: "sourceEnded", subtask: TASKS.a });
      case "a-finished":
        return this.#step({ type: "taskFinished", subtask: TASKS.a });
      case "suspend":
        return this.#step({ type: "suspended" });
      case "end":
        return this.#step({ type: "stopped" });
      case "cleaned":
        return this.#step({ type: "cleaned", ids: [id] });
      case "noids":
        this.nextId = Infinity;
        return [];
      case "refused-ids":
        return this.#step({ type: "idsNotReserved" });
      default:
        throw new Error(`unknown word ${word}`);
    }
  }

  #ack(task: "a" | "b", checkpointId: CheckpointId, epoch: Epoch, attempt: number) {
    const stats = { startDelayMs: 0, alignmentMs: 0, syncMs: 0, asyncMs: 0, stateSizeBytes: 1 };
    return {
      checkpointId,
      epoch,
      attempt: attempt as AttemptNumber,
      subtask: TASKS[task],
      parts: [],
      finished: false,
      stats,
    };
  }

  #step(event: CoordinatorEvent): readonly string[] {
    const nextId = this.nextId === Infinity ? undefined : (this.nextId as CheckpointId);
    const [state, effects] = step(this.state, event, { nowMs: this.nowMs, wallMs: this.nowMs, nextId });
    this.state = state;
    return effects.flatMap((effect) => {
      switch (effect.type) {
        case "trigger":
          this.nextId += 1;
          return [`${triggerWord(effect)}${effect.id}(${effect.targets.map((t) => t.vertexId).join()})`];
        case "commit":
          this.#lastCommit.set(effect.ref.id, effect);
          return [`commit${effect.ref.id}`];
        case "writeMetadata":
          return [`write${effect.metadata.checkpointId}`];
        case "notifyComplete":
          return [`notify${effect.id}`];
        case "aborted":
          return [`${effect.code === "CANCELED" ? "cut" : "abort"}${effect.id}`];
        case "delete":
          return [`delete${effect.ids.join(",")}`];
        case "completed":
          return effect.savepoint === null ? [] : [`taken${effect.id}`];
        case "savepointFailed":
          return [`refused${effect.request.token}`];
        case "stopFailed":
        case "failJob":
        case "reserveIds":
        case "giveUpCommit":
        case "cancelMetadata":
          return [effect.type];
        default:
          return [];
      }
    });
  }
}

const DONE = (id: number): string => `a:${id} b:${id} written:${id} committed:${id}`;

describe("the life of a checkpoint", () => {
  test.each<readonly [string, Partial<CheckpointConfig>, string, string]>([
    ["C6: nothing before everything runs", {}, "start +500", ""],
    ["C6: then the interval", {}, "start up +99 +1", "trigger1(source)"],
    [
      "CL5: ack, metadata, commit, notify, in this order",
      {},
      `start up +100 ${DONE(1)}`,
      "trigger1(source) write1 commit1 notify1",
    ],
    ["one at a time", {}, "start up +100 +100 +100", "trigger1(source)"],
    ["max concurrent 2", { concurrentMax: 2 }, "start up +100 +100 +100", "trigger1(source) trigger2(source)"],
    [
      "C5: min pause implies one at a time",
      { concurrentMax: 2, minPauseMs: 10 },
      "start up +100 +100",
      "trigger1(source)",
    ],
    [
      "C5: min pause is measured from completion",
      { minPauseMs: 80 },
      `start up +100 +90 ${DONE(1)} +10 +60 +10`,
      "trigger1(source) write1 commit1 notify1 trigger2(source)",
    ],
    ["CL9: acks of another epoch or attempt", {}, "start up +100 old-epoch:1 old-attempt:1 b:1", "trigger1(source)"],
    ["C4: repeated acks and acks of another id", {}, "start up +100 a:1 a:1 a:9 b:9", "trigger1(source)"],
    [
      "C4: an ack after the abort",
      { tolerableFailedCount: 5 },
      "start up +100 a:1 expire:1 b:1",
      "trigger1(source) abort1",
    ],
    [
      "C1: two acknowledged: the lower commits first",
      { concurrentMax: 2 },
      "start up +100 +100 a:1 b:1 a:2 b:2 written:1 committed:1",
      "trigger1(source) trigger2(source) write1 commit1 notify1 write2",
    ],
    [
      "C2: a completed one subsumes lower ones",
      { concurrentMax: 2 },
      `start up +100 +100 ${DONE(2)}`,
      "trigger1(source) trigger2(source) write2 commit2 notify2 abort1",
    ],
    ["C7: the first failure fails the job by default", {}, "start up +100 expire:1", "trigger1(source) abort1 failJob"],
    [
      "C7: tolerated failures are consecutive",
      { tolerableFailedCount: 1 },
      `start up +100 decline:1 +100 ${DONE(2)} +100 decline:3 +100 decline:4`,
      "trigger1(source) abort1 trigger2(source) write2 commit2 notify2 trigger3(source) abort3 trigger4(source) abort4 failJob",
    ],
    ["C7: superseded does not count", {}, "start up +100 superseded:1", "trigger1(source) abort1"],
    [
      "C3: a commit in doubt is not aborted, but counted",
      {},
      "start up +100 a:1 b:1 written:1 expire:1 committed:1",
      "trigger1(source) write1 commit1 giveUpCommit failJob notify1",
    ],
    [
      "a timeout ends the writing of metadata",
      { tolerableFailedCount: 1 },
      "start up +100 a:1 b:1 expire:1 written:1",
      "trigger1(source) write1 cancelMetadata abort1",
    ],
    ["the final checkpoint comes at once", {}, "start up ended", "final1(source)"],
    [
      "... after the pending one, without a pause",
      { minPauseMs: 1_000, intervalMs: 1_000 },
      `start up +100 ended ${DONE(1)}`,
      "trigger1(source) write1 commit1 notify1 final2(source)",
    ],
    ["... and is the last", {}, `start up ended ${DONE(1)} +1000`, "final1(source) write1 commit1 notify1"],
    [
      "... and is tried again a second later",
      { tolerableFailedCount: 9 },
      "start up ended decline:1 +999 +1",
      "final1(source) abort1 final2(source)",
    ],
    ["without an interval there is only the final one", { intervalMs: null }, "start up +9999 ended", "final1(source)"],
    ["behind finished sources the next vertex is triggered", {}, "start up a-finished", "final1(sink)"],
    [
      "a task that finishes before its ack ends the checkpoint",
      {},
      "start up +100 a-finished",
      "trigger1(source) abort1 final2(sink)",
    ],
    ["a used up block is renewed first", {}, "start up noids +100 +100", "reserveIds"],
    [
      "C7: a store that takes no new block fails checkpoints, and is asked again after a second",
      { tolerableFailedCount: 1 },
      "start up noids +100 refused-ids +999 +1 refused-ids",
      "reserveIds reserveIds failJob",
    ],
    [
      "C7: the same for the final one",
      { tolerableFailedCount: 1 },
      "start up noids ended refused-ids +999 +1 refused-ids",
      "reserveIds reserveIds failJob",
    ],
    [
      "C3: a commit that a restart gives up was cut off, one that fails by itself failed",
      { tolerableFailedCount: 9 },
      "start up +100 a:1 b:1 written:1 suspend uncommitted:1 restart up +100 a:2 b:2 written:2 uncommitted:2",
      "trigger1(source) write1 commit1 cut1 trigger2(source) write2 commit2 abort2",
    ],
    [
      "suspend aborts without notifying, and says that it was no failure",
      {},
      "start up +100 suspend a:1 b:1 +100",
      "trigger1(source) cut1",
    ],
    [
      "C11: what is asked for while nothing runs waits for the next attempt",
      { intervalMs: null },
      "ask suspend start up",
      "trigger1(source)",
    ],
    [
      "C11: what was asked of an attempt that ends is not asked of the next one",
      { intervalMs: null },
      "start ask suspend restart up",
      "",
    ],
    [
      "CL8: nothing after the end",
      {},
      "start up +100 a:1 b:1 written:1 end committed:1",
      "trigger1(source) write1 commit1",
    ],
  ])("%s", (_name, config, script, expected) => {
    expect(new Player(config).play(script)).toBe(expected);
  });
});

describe("savepoints", () => {
  const S = (id: number): string => `a:${id} b:${id} saved:${id}`;
  const ALONE = { intervalMs: null };
  const TAKEN = "savepoint1(source) write1 taken1";
  test.each<readonly [string, Partial<CheckpointConfig>, string, string]>([
    ["C9: no record, nobody is notified", ALONE, `start up savepoint:7 ${S(1)}`, TAKEN],
    ["C6: it waits until everything runs", ALONE, `start savepoint:7 up ${S(1)}`, TAKEN],
    ["... also over a restart", ALONE, `start savepoint:7 suspend restart up ${S(1)}`, TAKEN],
    ["... but not for ever", ALONE, "start savepoint:7 overdue:7 up", "refused7"],
    ["C8: beside a pending checkpoint", {}, "start up +100 savepoint:7", "trigger1(source) savepoint2(source)"],
    [
      "C8: within the pause between checkpoints, and before a checkpoint that is due",
      { minPauseMs: 80 },
      `start up +100 ${DONE(1)} +10 savepoint:7`,
      "trigger1(source) write1 commit1 notify1 savepoint2(source)",
    ],
    [
      "C8: it holds up no checkpoint, and none subsumes it",
      {},
      `start up savepoint:7 +100 ${DONE(2)} ${S(1)}`,
      "savepoint1(source) trigger2(source) write2 commit2 notify2 write1 taken1",
    ],
    [
      "C8, C1: it is complete although a lower checkpoint is not",
      {},
      `start up +100 savepoint:7 ${S(2)} ${DONE(1)}`,
      "trigger1(source) savepoint2(source) write2 taken2 write1 commit1 notify1",
    ],
    [
      "C8: at most four at a time, in order",
      ALONE,
      `start up savepoint:1 savepoint:2 savepoint:3 savepoint:4 savepoint:5 savepoint:6 ${S(2)}`,
      "savepoint1(source) savepoint2(source) savepoint3(source) savepoint4(source) write2 taken2 savepoint5(source)",
    ],
    ["C7: a failed one does not count", ALONE, "start up savepoint:7 expire:1", "savepoint1(source) abort1 refused7"],
    ["a declined one", ALONE, "start up savepoint:7 decline:1", "savepoint1(source) abort1 refused7"],
    ["a restart ends it", ALONE, "start up savepoint:7 suspend", "savepoint1(source) cut1 refused7"],
    ["without ids none is taken", ALONE, "start up noids savepoint:7 refused-ids", "reserveIds refused7 failJob"],
    [
      "the final checkpoint follows it",
      ALONE,
      `start up savepoint:7 ended ${S(1)} ${DONE(2)}`,
      "savepoint1(source) final2(source) write1 taken1 write2 commit2 notify2",
    ],
  ])("%s", (_name, config, script, expected) => {
    expect(new Player(config).play(script)).toBe(expected);
  });

  test.each<readonly [string, Partial<CheckpointConfig>, string, string]>([
    [
      "C10: the record before anybody is notified",
      {},
      `start up stop:7 ${S(1)} committed:1`,
      "stop1(source) write1 commit1 notify1 taken1",
    ],
    ["C10: with a drain", {}, `start up drain:7 ${S(1)} committed:1`, "drain1(source) write1 commit1 notify1 taken1"],
    ["C10: nothing is triggered after it", {}, "start up stop:7 +100 savepoint:8 ended +100", "stop1(source)"],
    [
      "C1: checkpoints below it complete first",
      {},
      "start up +100 stop:7 a:1 b:1 a:2 b:2 written:1 committed:1 saved:2 committed:2",
      "trigger1(source) stop2(source) write1 commit1 notify1 write2 commit2 notify2 taken2",
    ],
    [
      "C2: it ends all that is below it",
      {},
      `start up +100 savepoint:6 stop:7 ${S(3)} committed:3`,
      "trigger1(source) savepoint2(source) stop3(source) write3 commit3 notify3 cut1 cut2 refused6 taken3",
    ],
    [
      "a failed one ends the attempt, not the job",
      {},
      "start up stop:7 decline:1 +100",
      "stop1(source) abort1 refused7 stopFailed",
    ],
    ["... and so does its timeout", {}, "start up stop:7 expire:1", "stop1(source) abort1 refused7 stopFailed"],
    [
      "C3: a commit in doubt is not aborted, whatever the clock says",
      {},
      `start up stop:7 ${S(1)} expire:1 suspend committed:1`,
      "stop1(source) write1 commit1 giveUpCommit notify1 taken1",
    ],
    [
      "what only publishes takes no checkpoints",
      {},
      `start up stop:7 ${S(1)} suspend committed:1 restart up +100 ended +100`,
      "stop1(source) write1 commit1 notify1 taken1",
    ],
  ])("stop: %s", (_name, config, script, expected) => {
    expect(new Player(config).play(script)).toBe(expected);
  });

  test("CL7: the savepoint is the head, retained checkpoints stay, and the operation is settled by the same record", () => {
    const player = new Player({ retainedMax: 2 });
    const request = { kind: "stop", targetDirectory: null, formatType: "NATIVE", drain: false } as const;
    player.play(`start up +100 ${DONE(1)}`);
    player.record = { ...player.record, ops: [{ id: "op", request, outcome: null }] };
    player.play(`stop:7 ${S(2)} committed:2`);
    const outcome = { type: "done", location: "mem://store/s7", checkpointId: 2 };
    expect(player.record).toMatchObject({
      head: savepointRef(2),
      retained: [ref(1)],
      condemned: [],
      jobState: "stopping",
      ops: [{ id: "op", outcome }],
    });
  });
});

describe("retention", () => {
  test("CL7, P6: the dropped one is condemned with a commit and deleted after the next", () => {
    const player = new Player({ retainedMax: 2 });
    const script = [1, 2, 3, 4].map((id) => `+100 ${DONE(id)}`).join(" ");
    const played = player
      .play(`start up ${script}`)
      .split(" ")
      .filter((word) => word.startsWith("delete") || word.startsWith("commit"));
    expect(played).toEqual(["commit1", "commit2", "commit3", "commit4", "delete1"]);
    expect(player.record.retained.map((r) => r.id)).toEqual([3, 4]);
    expect(player.record.condemned).toEqual([1, 2]);
    player.play(`cleaned:1 +100 ${DONE(5)}`);
    expect(player.record.condemned).toEqual([2, 3]);
  });

  test("an aborted id is condemned, a pinned one never", () => {
    const player = new Player({ retainedMax: 1, tolerableFailedCount: 9 });
    player.play(`start up +100 expire:1 +100 ${DONE(2)}`);
    expect(player.record.condemned).toEqual([1]);
    player.record = { ...player.record, pins: [{ ref: ref(2), holder: "me", expiresAtMs: null }] };
    player.play(`+100 ${DONE(3)}`);
    expect(player.record.retained.map((r) => r.id)).toEqual([3]);
    expect(player.record.condemned).toEqual([1]);
  });

  test("OR1, OR2: a claimed checkpoint that own ones have replaced goes, but not from under another job that still starts from it", () => {
    const claim = { path: ref(5).path, kind: "checkpoint", lineage: "old", isCondemned: false } as const;
    const own = { ref: ref(5), holder: "lineage:old", expiresAtMs: null };
    const other = { ref: ref(5), holder: "restore:n/other:u", expiresAtMs: 1_000_000 };
    const condemnedBy = (pins: CommitRecord["pins"]) => {
      const player = new Player({ retainedMax: 1 });
      player.nextId = 6;
      player.record = { ...player.record, origin: ref(5).path, claim, pins };
      player.play(`start up +100 ${DONE(6)}`);
      const { condemned, claim: left } = player.record;
      return { condemned, left, pins: player.record.pins };
    };
    expect(condemnedBy([own])).toEqual({ condemned: [5], left: null, pins: [] });
    expect(condemnedBy([own, other])).toEqual({ condemned: [], left: null, pins: [other] });
  });
});

test("who declined is named by the uids of its operators", () => {
  expect(describeSubtask({ vertices: VERTICES }, TASKS.b)).toBe(`subtask 1/${VERTICES[1]?.parallelism} of sink`);
  expect(describeSubtask({ vertices: [] }, TASKS.b)).toBe(`task ${subtaskKeyOf(TASKS.b)}`);
});
