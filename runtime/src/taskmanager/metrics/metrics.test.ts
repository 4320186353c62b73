// Names, labels and text of both /metrics pages, and what promtool says to them.

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { Log } from "@sluice/kit/env";
import { checkMetrics, promtool } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";
import fc from "fast-check";

import { JID, NO_CHECKPOINTS, runningJob, sourceOf, viewOf } from "../../../test/jobmanager-view.ts";
import { jobManagerPage } from "../../jobmanager/metrics/jobmanager-page.ts";
import { Awaited } from "../../jobmanager/rest/awaited.ts";
import { startRestServer } from "../../jobmanager/rest/rest-server.ts";
import type { HttpServer, ProcessFigures } from "../../metrics/index.ts";
import { MetricsPage, observeProcess, RateWindow, startHttpServer } from "../../metrics/index.ts";
import { operatorsOfChain, TaskManagerPages } from "./taskmanager-page.ts";
import type { TaskFigures, TaskManagerMetricsView } from "./taskmanager-page.ts";

const PROCESS: ProcessFigures = {
  heap: { usedBytes: 1_000, committedBytes: 2_000, limitBytes: 4_000 },
  externalBytes: 500,
  residentBytes: 10_000,
  codeBytes: 300,
  cpuLoad: 0.25,
  cpuTimeMs: 1_500,
  threadCount: 9,
  openFileCount: 30,
  youngCollections: { count: 5, timeMs: 10 },
  oldCollections: { count: 1, timeMs: 20 },
  collectionMsPerSecond: 3,
};

const FIGURES: TaskFigures = {
  numRecordsIn: 100,
  numRecordsOut: 50,
  numBytesIn: 1_000,
  numBytesOut: 500,
  busyTimeMs: 1_000,
  backPressuredTimeMs: 100,
  idleTimeMs: 900,
  isBackPressured: 1,
  checkpointAlignmentMs: 1.5,
  checkpointStartDelayMs: 2,
  stateSizeBytes: 77,
  numRecordsSkipped: 0,
  restoreMs: 12,
  restoreReadMs: 4,
  restoredLocalParts: 3,
  restoredLocalBytes: 300,
  restoredStoreParts: 1,
  restoredStoreBytes: 50,
};

/** A TaskManager with one task whose figures and time the test moves. */
function taskManager(): {
  nowMs: number;
  figures: TaskFigures;
  attempt: number;
  readonly view: TaskManagerMetricsView;
} {
  const state = {
    nowMs: 0,
    figures: FIGURES,
    attempt: 0,
    view: {
      taskManagerId: "tm-1",
      host: "localhost",
      slots: 2,
      freeSlots: () => 1,
      nowMs: (): number => state.nowMs,
      job: () => ({ jid: JID, name: 'sum "by" key' }),
      slotHeaps: () => [{ usedBytes: 10, committedBytes: 20, limitBytes: 40 }],
      tasks: () => [
        {
          vertexId: "b".repeat(32),
          taskName: "sum -> sink",
          subtaskIndex: 1,
          attempt: state.attempt,
          operators: operatorsOfChain(
            [
              { uid: "sum", name: "sum" },
              { uid: "sink", name: "sink" },
            ],
            state.figures,
          ),
          figures: state.figures,
        },
      ],
    },
  };
  return state;
}

/** Value of the one series of this name (and label). */
function valueOf(text: string, name: string, label = ""): number {
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) && line.includes(label));
  expect(lines).toHaveLength(1);
  return Number(lines[0]!.slice(lines[0]!.lastIndexOf(" ")));
}

describe("JobManager", () => {
  test("Flink's names and labels", async () => {
    const text = await jobManagerPage(viewOf(runningJob({ restartCount: 3 })), PROCESS).render();
    const of = (name: string): number => valueOf(text, `flink_jobmanager_${name}`);
    expect(of("job_lastCheckpointDuration")).toBe(50);
    expect(of("job_lastCheckpointSize")).toBe(4_000);
    expect(of("job_lastCompletedCheckpointId")).toBe(2);
    expect(of("job_numberOfCompletedCheckpoints")).toBe(2);
    expect(of("job_numberOfFailedCheckpoints")).toBe(1);
    expect(of("job_totalNumberOfCheckpoints")).toBe(3);
    expect(of("job_numRestarts")).toBe(3);
    expect(of("job_uptime")).toBe(19_980);
    expect(of("job_runningTime")).toBe(19_980);
    expect(of("job_restartingTime")).toBe(0);
    expect(of("numRegisteredTaskManagers")).toBe(1);
    expect(of("numRunningJobs")).toBe(1);
    expect(of("taskSlotsTotal")).toBe(2);
    expect(of("taskSlotsAvailable")).toBe(0);
    expect(of("Status_JVM_Memory_Heap_Used")).toBe(1_000);
    expect(of("Status_JVM_CPU_Load")).toBe(0.25);
    expect(of("Status_JVM_GarbageCollector_All_Count")).toBe(6);
    expect(text).toContain(
      `flink_jobmanager_job_numRestarts{host="localhost",job_id="${JID}",job_name="sum \\"by\\" key"} 3`,
    );
    expect(text).toContain("# TYPE flink_jobmanager_job_numRestarts gauge");
  });

  test("JV1: before the first checkpoint there is -1, and an ended job is not running", async () => {
    const job = runningJob({ state: "FINISHED", checkpoints: NO_CHECKPOINTS });
    const text = await jobManagerPage(viewOf(job), PROCESS).render();
    expect(valueOf(text, "flink_jobmanager_job_lastCompletedCheckpointId")).toBe(-1);
    expect(valueOf(text, "flink_jobmanager_job_lastCheckpointDuration")).toBe(-1);
    expect(valueOf(text, "flink_jobmanager_numRunningJobs")).toBe(0);
    expect(valueOf(text, "flink_jobmanager_job_uptime")).toBe(0);
  });
});

describe("TaskManager", () => {
  test("Flink's names and labels", async () => {
    const text = await new TaskManagerPages(taskManager().view).page(PROCESS).render();
    expect(valueOf(text, "flink_taskmanager_job_task_numRecordsIn")).toBe(100);
    expect(valueOf(text, "flink_taskmanager_job_task_isBackPressured")).toBe(1);
    expect(valueOf(text, "flink_taskmanager_job_task_checkpointAlignmentTime")).toBe(1_500_000);
    expect(valueOf(text, "flink_taskmanager_job_task_checkpointStartDelayNanos")).toBe(2_000_000);
    expect(valueOf(text, "flink_taskmanager_job_task_operator_numRecordsIn", 'operator_name="sum"')).toBe(100);
    expect(valueOf(text, "flink_taskmanager_job_task_operator_numRecordsOut", 'operator_name="sink"')).toBe(50);
    expect(valueOf(text, "flink_taskmanager_Status_JVM_Memory_Heap_Used")).toBe(1_010);
    for (const label of ["host=", "tm_id=", "job_id=", "job_name=", 'task_name="sum -> sink"', 'subtask_index="1"']) {
      expect(text.split("\n").find((line) => line.startsWith("flink_taskmanager_job_task_numRecordsOut{"))).toContain(
        label,
      );
    }
  });

  test("rates come from what changed, and start anew with an attempt", async () => {
    const manager = taskManager();
    const pages = new TaskManagerPages(manager.view);
    const busy = async (): Promise<number> =>
      valueOf(await pages.page(PROCESS).render(), "flink_taskmanager_job_task_busyTimeMsPerSecond");
    expect(await busy()).toBe(0);
    manager.nowMs = 2_000;
    manager.figures = { ...FIGURES, busyTimeMs: 2_500 };
    expect(await busy()).toBe(750);
    manager.nowMs = 4_000;
    manager.attempt = 1;
    manager.figures = { ...FIGURES, busyTimeMs: 100 };
    expect(await busy()).toBe(0);
  });
});

describe("rates", () => {
  test("RT1: of a steady figure they are exact however often they are read", () =>
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 2, maxLength: 100 }), (gapsMs) => {
        const window = new RateWindow();
        let nowMs = 0;
        window.perSecond(0, [0]);
        for (const gapMs of gapsMs) {
          nowMs += gapMs;
          expect(window.perSecond(nowMs, [nowMs * 7])[0]).toBeCloseTo(7_000, 6);
        }
      }),
    ));

  test("RT1: after a change of pace only the last seconds count", () => {
    const window = new RateWindow();
    for (let second = 0; second <= 100; second += 1) window.perSecond(second * 1_000, [0]);
    let rate = 0;
    for (let second = 101; second <= 115; second += 1)
      rate = window.perSecond(second * 1_000, [(second - 100) * 50])[0]!;
    expect(rate).toBeCloseTo(50, 6);
  });

  test("RT2: a figure that fell gives no negative rate", () => {
    const window = new RateWindow();
    window.perSecond(0, [1_000]);
    expect(window.perSecond(2_000, [10])).toEqual([0]);
    expect(window.perSecond(4_000, [30])).toEqual([10]);
  });
});

const LOG: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => LOG,
};

describe("over HTTP", () => {
  let server: HttpServer;
  const readProcess = observeProcess();
  const url = (path: string): string => `http://${server.address}${path}`;

  beforeAll(async () => {
    server = await startRestServer({
      address: "127.0.0.1:0",
      source: sourceOf(runningJob()),
      readProcess,
      token: undefined,
      awaited: new Awaited({ nowMs: () => 0, wallMs: () => 0 }),
      log: LOG,
    });
  });
  afterAll(() => server.close());

  test("metrics are Prometheus text, with figures of this very process", async () => {
    const response = await fetch(url("/metrics"));
    expect(response.headers.get("content-type")).toContain("text/plain");
    const text = await response.text();
    expect(valueOf(text, "flink_jobmanager_Status_JVM_Memory_Heap_Used")).toBeGreaterThan(1_000_000);
  });

  test("REST is JSON, with status and without a trace of the server", async () => {
    const response = await fetch(url("/overview"));
    expect(response.headers.get("content-type")).toMatch(/^application\/json; charset=utf-8$/i);
    expect(response.headers.get("x-powered-by")).toBeNull();
    expect(await response.json()).toMatchObject({ taskmanagers: 1 });
    expect((await fetch(url("/nope"))).status).toBe(404);
    expect((await fetch(url(`/jobs/${JID}?mode=cancel`), { method: "PATCH" })).status).toBe(202);
    expect((await fetch(url("/overview"), { method: "HEAD" })).status).toBe(200);
    expect((await fetch(url("/jobs/%E0%A4%A"))).status).toBe(400);
  });

  test("HS2: with a token nothing answers without it but the way to ask whether the process lives", async () => {
    const token = "0123456789abcdef0123";
    const guarded = await startRestServer({
      address: "127.0.0.1:0",
      source: sourceOf(runningJob()),
      readProcess,
      token,
      awaited: new Awaited({ nowMs: () => 0, wallMs: () => 0 }),
      log: LOG,
    });
    const ask = async (path: string, authorization?: string): Promise<number> => {
      const headers = authorization === undefined ? {} : { authorization };
      return (await fetch(`http://${guarded.address}${path}`, { headers })).status;
    };
    expect(await ask("/overview", `Bearer ${token}`)).toBe(200);
    expect(await ask("/metrics", `bearer  ${token}`)).toBe(200);
    expect(await ask("/health")).toBe(200);
    for (const path of ["/overview", "/metrics", "/openapi.json", "/nope", "/health/", "//health"])
      expect([path, await ask(path)]).toEqual([path, 401]);
    for (const wrong of [`Bearer ${token}x`, `Bearer ${token.slice(1)}`, `Basic ${token}`, token, "Bearer ", "Bearer"])
      expect([wrong, await ask("/overview", wrong)]).toEqual([wrong, 401]);
    const refused = await fetch(`http://${guarded.address}/overview`);
    expect(refused.headers.get("www-authenticate")).toBe("Bearer");
    expect(await refused.json()).toMatchObject({ errors: [expect.stringContaining("token")] });
    await guarded.close();
  });

  test("a body comes through, one that is too large does not", async () => {
    const post = (body: string): Promise<Response> =>
      fetch(url(`/jobs/${JID}/checkpoints`), {
        method: "POST",
        body,
        headers: { "content-type": "application/json; charset=UTF-8" },
      });
    expect((await post('{"checkpointType":"FULL"}')).status).toBe(202);
    expect((await post('{"checkpointType":"HALF"}')).status).toBe(400);
    expect((await post(" ".repeat(2_000_000))).status).toBe(413);
  });

  test("HS1: a page that throws is a 500 and the server lives", async () => {
    const broken = await startHttpServer({
      address: "127.0.0.1:0",
      token: undefined,
      log: LOG,
      metrics: () => {
        throw new Error("no figures");
      },
    });
    const statuses: number[] = [];
    for (const path of ["/metrics", "/metrics", "/x"])
      statuses.push((await fetch(`http://${broken.address}${path}`)).status);
    await broken.close();
    expect(statuses).toEqual([500, 500, 404]);
  });

  test("a port that is taken, and an address that is none", async () => {
    const start = (address: string): Promise<HttpServer> =>
      startHttpServer({ address, token: undefined, log: LOG, metrics: () => new MetricsPage() });
    await expect(start(server.address)).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    await expect(start("nowhere")).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  });
});

describeWithPeer(promtool, "promtool", () => {
  /** Complaints but those that Flink's names bring with them. */
  async function complaints(page: MetricsPage): Promise<readonly string[]> {
    const verdict = await checkMetrics(await page.render());
    return verdict.complaints.filter((line) => !/should be written in 'snake_case' not 'camelCase'/.test(line));
  }

  test("has nothing to say to the JobManager's page but camelCase", async () =>
    expect(await complaints(jobManagerPage(viewOf(runningJob()), PROCESS))).toEqual([]));

  test("has nothing to say to the TaskManager's page but camelCase", async () =>
    expect(await complaints(new TaskManagerPages(taskManager().view).page(PROCESS))).toEqual([]));
});
