// From REST's answers to what people see; and who runs where.

import { describe, expect, test } from "@jest/globals";
import type { CheckpointingMessage, ClusterOverviewMessage, JobDetailsMessage } from "@sluice/api";
import { isFailure } from "@sluice/kit";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { JsonDisplay, PlainDisplay, TerminalDisplay } from "./display.ts";
import { formatCount, progressLine, progressLines, progressOf, restoredLine } from "./progress.ts";
import type { Progress } from "./progress.ts";
import { announceRun, listRuns, refuseSecondRun, withdrawRun } from "./run-file.ts";

/** What progressOf reads of REST, no more. */
function answers(
  change: {
    readonly durationMs?: number;
    readonly written?: number;
    readonly read?: number;
    readonly checkpointId?: number;
  } = {},
): Parameters<typeof progressOf>[0] {
  const vertex = (id: string, read: number, written: number): object => ({
    id,
    parallelism: 2,
    tasks: { RUNNING: 2 },
    metrics: { "read-records": read, "write-records": written },
  });
  const written = change.written ?? 1_000;
  const job = {
    name: "sum",
    state: "RUNNING",
    duration: change.durationMs ?? 10_000,
    now: 1_000_000,
    vertices: [vertex("source", written, 0), vertex("middle", written, written), vertex("sink", change.read ?? 500, 0)],
    plan: {
      nodes: [
        { id: "sink", inputs: [{ id: "middle" }] },
        { id: "middle", inputs: [{ id: "source" }] },
        { id: "source" },
      ],
    },
  };
  const completed =
    change.checkpointId === undefined
      ? null
      : { id: change.checkpointId, end_to_end_duration: 45, state_size: 2_048, latest_ack_timestamp: 998_000 };
  return {
    job: job as unknown as JobDetailsMessage,
    checkpoints: {
      counts: { completed: change.checkpointId ?? 0, failed: 1 },
      latest: { completed, restored: null },
    } as unknown as CheckpointingMessage,
    overview: { taskmanagers: 2 } as ClusterOverviewMessage,
    restarts: 1,
  };
}

describe("progress", () => {
  test("sources count in, vertices without consumers count out", () =>
    expect(progressOf(answers(), undefined)).toMatchObject({
      recordsIn: 1_000,
      recordsOut: 500,
      recordsInPerSecond: undefined,
      tasksRunning: 6,
      tasks: 6,
      restarts: 1,
      taskManagers: 2,
    }));

  test("rates are against an earlier moment, and never negative after a restart", () => {
    const before = progressOf(answers(), undefined);
    expect(progressOf(answers({ durationMs: 12_000, written: 5_000, read: 1_500 }), before)).toMatchObject({
      recordsInPerSecond: 2_000,
      recordsOutPerSecond: 500,
    });
    expect(progressOf(answers({ durationMs: 12_000, written: 10 }), before).recordsInPerSecond).toBe(0);
  });

  test("a restore in one line: where the state came from", () => {
    const metrics = { lastRestoreCheckpointId: 12, lastRestoreDuration: 85, lastRestoreStoreSubtasks: 1 };
    expect(
      restoredLine({
        ...metrics,
        lastRestoreLocalSubtasks: 3,
        lastRestoreLocalBytes: 2_048,
        lastRestoreStoreBytes: 10,
      }),
    ).toBe("restored checkpoint 12 in 85 ms: 3 tasks from local copies (2 kb), 1 task from the store (10 bytes)");
    expect(restoredLine({ ...metrics, lastRestoreStoreSubtasks: 0 })).toBe(
      "restored checkpoint 12 in 85 ms: 0 tasks from local copies, 0 tasks from the store",
    );
  });

  test("one line for logs, four for a terminal", () => {
    const progress = progressOf(answers({ checkpointId: 7 }), undefined);
    expect(progressLine(progress)).toBe(
      "RUNNING, 1.00 k records in, 500 out, checkpoint 7 (45 ms, 2 kb), 1 restarts, 2 TaskManagers",
    );
    expect(progressLines(progress, 200)).toEqual([
      "sum  RUNNING  10 s",
      "  records      1.00 k in, 500 out",
      "  checkpoints  #7 in 45 ms, 2 kb, 2 s ago; 7 completed, 1 failed",
      "  processes    2 TaskManagers, 6/6 tasks running, 1 restarts",
    ]);
    expect(Math.max(...progressLines(progress, 20).map((line) => line.length))).toBe(20);
  });

  test.each([
    [0, "0"],
    [999, "999"],
    [1_000, "1.00 k"],
    [12_345, "12.3 k"],
    [999_960, "1.00 M"],
    [3_000_000, "3.00 M"],
    [5_819_079_000, "5.82 G"],
  ])("%i is written %s", (count, text) => expect(formatCount(count)).toBe(text));
});

describe("displays", () => {
  const progress: Progress = progressOf(answers({ checkpointId: 7 }), undefined);
  const collect = (): { text: string; columns: number; write(text: string): void } => ({
    text: "",
    columns: 200,
    write(text) {
      this.text += text;
    },
  });

  test("DI1: on a terminal a message stands above the picture, which is drawn again", () => {
    const out = collect();
    const display = new TerminalDisplay(out);
    display.progress(progress);
    display.notice({ kind: "note", text: "hello" });
    const afterNotice = out.text.slice(out.text.indexOf("\u001b"));
    expect(afterNotice.startsWith("\u001b[4A\u001b[0Jhello\nsum  RUNNING")).toBe(true);
  });

  test("DI2: plain output has a line per change and one every five seconds", () => {
    const out = collect();
    let nowMs = 0;
    const display = new PlainDisplay(out, () => nowMs);
    const lines = (): number => out.text.split("\n").length - 1;
    display.progress(progress);
    display.progress(progress);
    expect(lines()).toBe(1);
    display.progress({ ...progress, restarts: 2 });
    expect(lines()).toBe(2);
    nowMs = 5_000;
    display.progress({ ...progress, restarts: 2 });
    expect(lines()).toBe(3);
    expect(out.text).not.toContain("\u001b");
  });

  test("JSON output is one object a line", () => {
    const out = collect();
    const display = new JsonDisplay(out);
    display.notice({ kind: "started", text: "a\nb", fields: { restUrl: "http://x" } });
    display.progress(progress);
    const kinds = out.text
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { kind: string }).kind);
    expect(kinds).toEqual(["started", "progress"]);
  });
});

describe("run.json", () => {
  const inFolder = (body: (base: string) => void): void => {
    const base = mkdtempSync(join(tmpdir(), "sluice-run-"));
    try {
      body(base);
    } finally {
      rmSync(base, { recursive: true, force: true });
    }
  };
  const refusal = (workDir: string): string => {
    try {
      refuseSecondRun(workDir);
      return "allowed";
    } catch (thrown) {
      return isFailure(thrown) ? thrown.message : "not a Failure";
    }
  };

  test("a living run is listed, refuses a second one, and goes with its process only", () =>
    inFolder((base) => {
      const workDir = join(base, "sum");
      announceRun(workDir, { name: "sum", pid: process.ppid, restUrl: "http://127.0.0.1:1" });
      expect(refusal(workDir)).toContain(`runs already in ${workDir} (process ${process.ppid}`);
      expect(listRuns(base)).toHaveLength(1);
      withdrawRun(workDir);
      expect(listRuns(base)).toHaveLength(1); // not ours
      announceRun(workDir, { name: "sum", pid: process.pid, restUrl: undefined });
      withdrawRun(workDir);
      expect(listRuns(base)).toEqual([]);
    }));

  test("a dead or torn one is nobody's", () =>
    inFolder((base) => {
      announceRun(join(base, "dead"), { name: "dead", pid: 2 ** 22 + 1, restUrl: undefined });
      announceRun(join(base, "torn"), { name: "torn", pid: 1, restUrl: undefined });
      writeFileSync(join(base, "torn", "run.json"), '{"name": "to');
      expect(refusal(join(base, "dead"))).toBe("allowed");
      expect(refusal(join(base, "torn"))).toBe("allowed");
      expect(listRuns(base)).toEqual([]);
      expect(listRuns(join(base, "absent"))).toEqual([]);
    }));
});
