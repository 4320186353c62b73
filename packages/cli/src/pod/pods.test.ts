// A job in pods: JobManager and TaskManager as `sluice pod` runs them, checkpoints on MinIO, output audited.
//
// The ledger: records 0 ... count - 1 in order, each written once, with the count of its key. What is lost, doubled or restored twice
// shows in the lines alone.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import type { PodConfig, PodReport } from "@sluice/api";
import { Bucket } from "@sluice/e2e/src/ledger/bucket.ts";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";

import { podConfig, Pods, until } from "./test/pods.ts";
import type { Container } from "./test/pods.ts";

const TIMEOUT_MS = 480_000;
const KEYS = 10;

const JOB = `
import { Encoders, FileSink, GeneratorSource, KeyedProcessFunction, Parameters, Types, ValueStateDescriptor } from "@sluice/runtime";

class Count extends KeyedProcessFunction {
  open(context) {
    this.count = context.getState(new ValueStateDescriptor("count", Types.LONG()));
  }
  processElement(index, ctx, out) {
    const count = (this.count.value() ?? 0) + 1;
    this.count.update(count);
    out.collect(index + " " + count);
  }
}

export function main(env) {
  const { output, count, rate } = env.declareParameters({
    output: Parameters.string(),
    count: Parameters.int(),
    rate: Parameters.int(),
  });
  const numbers = new GeneratorSource({ count, ratePerSecond: rate, type: Types.LONG(), generate: (i) => i });
  env
    .fromSource(numbers, "numbers")
    .uid("numbers")
    .keyBy((index) => index % ${KEYS}, Types.LONG())
    .process(() => new Count(), Types.STRING())
    .uid("count")
    .sinkTo(FileSink.forRowFormat(output, Encoders.text()))
    .uid("output");
}
`;

/** Lines of all files that readers of the output see. */
function linesBelow(directory: string): readonly string[] {
  let files: readonly string[];
  try {
    files = readdirSync(directory, { recursive: true, encoding: "utf8" });
  } catch {
    return [];
  }
  return files
    .filter((name) => /(?:^|\/)part-[^/]*$/u.test(name) && !/(?:^|\/)[._]/u.test(name))
    .flatMap((name) =>
      readFileSync(join(directory, name), "utf8")
        .split("\n")
        .filter((line) => line !== ""),
    );
}

/** What is wrong with them; empty: each of the numbers 0 ... count - 1 once, with the state that it must have had. */
function audit(lines: readonly string[], count: number): readonly string[] {
  const problems: string[] = [];
  const seen = new Set<number>();
  for (const line of lines) {
    const [index = -1, state = -1] = line.split(" ").map(Number);
    if (seen.has(index)) problems.push(`${index} is there twice`);
    if (!(index >= 0 && index < count)) problems.push(`${index} was never sent`);
    if (state !== Math.floor(index / KEYS) + 1) problems.push(`${index} met the state ${state}`);
    seen.add(index);
  }
  if (seen.size < count) problems.push(`${count - seen.size} of ${count} are lost`);
  return problems.slice(0, 5);
}

type Failed = Extract<PodReport, { readonly kind: "fatal" | "failure" }>["failure"];

describeWithPeer(minio, "a job in pods", () => {
  let server: MinioServer;
  let pods: Pods;
  const opened: Pods[] = [];

  beforeAll(async () => {
    server = await startMinio();
    const { endpoint, accessKey, secretKey } = server;
    await new Bucket({ endpoint: () => endpoint, accessKey, secretKey }, "jobs").create();
  }, TIMEOUT_MS);
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.stop();
  }, TIMEOUT_MS);
  afterAll(async () => {
    await server?.stop();
  }, TIMEOUT_MS);

  function open(): Pods {
    pods = new Pods({ AWS_ACCESS_KEY_ID: server.accessKey, AWS_SECRET_ACCESS_KEY: server.secretKey });
    opened.push(pods);
    return pods;
  }

  function config(
    place: string,
    load: { readonly count: number; readonly rate: number },
    changes: Partial<PodConfig> = {},
    start: Partial<PodConfig["start"]> = {},
  ): PodConfig {
    const dir = `s3://jobs/${place}`;
    return podConfig({
      source: { kind: "inline", path: pods.mount("job.ts", JOB) },
      arguments: ["--output", `file://${pods.folder}/out`, "--count", `${load.count}`, "--rate", `${load.rate}`],
      configuration: {
        "execution.checkpointing.interval": "300 ms",
        "execution.checkpointing.dir": dir,
        "execution.checkpointing.savepoint-dir": `${dir}/_savepoints`,
        "s3.endpoint": server.endpoint,
      },
      store: { uri: dir, endpoint: server.endpoint },
      start: { newLineage: false, mayCreate: true, onForeignLog: "refuse", pinRestored: true, order: [1, 0], ...start },
      ...changes,
    });
  }

  const output = (): readonly string[] => linesBelow(join(pods.folder, "out"));
  const published = (count: number): Promise<readonly string[]> =>
    until(() => {
      const lines = output();
      return lines.length >= count && lines;
    });

  /** A JobManager that may not start the job ends for good. */
  async function refusal(name: string, refused: PodConfig): Promise<Failed> {
    const container = await pods.start("jobmanager", name, refused);
    expect(await container.exited).toBe(78);
    const report = container.report();
    expect(report?.kind).toBe("fatal");
    return (report as Extract<PodReport, { readonly kind: "fatal" }>).failure;
  }

  async function killed({ child, exited }: Container): Promise<void> {
    child.kill("SIGKILL");
    await exited;
  }

  test(
    "PJ1: a JobManager that is killed and started again goes on with its submission: nothing is lost, nothing is there twice",
    async () => {
      open();
      const COUNT = 30_000;
      const pod = config("restart", { count: COUNT, rate: 2_500 });
      const taskManager = await pods.start("taskmanager", "sum-tm-0123456789-0", pod);
      const waiting = await until(async () => {
        const health = await pods.health(taskManager.name);
        return health.status !== 0 && health;
      });
      expect(waiting.status).toBe(503); // TaskManagers come first: there is no JobManager yet
      expect(waiting.text).toContain("it is not registered at the JobManager localhost:");

      const first = await pods.start("jobmanager", "sum-jm-0123456789-0", pod);
      await published(2_000);
      expect((await pods.health(taskManager.name)).status).toBe(200);
      const before = await until(async () => {
        const status = await pods.status();
        return status?.checkpoints.latest?.path !== undefined && status;
      });
      expect(before).toMatchObject({
        jobName: "sum",
        state: "RUNNING",
        restarts: 0,
        failure: null,
        taskManagers: { registered: ["sum-tm-0123456789-0"], slots: 1, slotsRequired: 1 },
        submission: "0123456789ab",
        log: { epoch: 1, uid: "uid-1", lineage: "0123456789ab", pins: [] },
      });
      expect(before.checkpoints.latest?.path).toMatch(/^s3:\/\/jobs\/restart\/ns\/sum\/chk-\d+$/u);

      await killed(first);
      const atKill = output().length;
      expect(atKill).toBeLessThan(COUNT);
      const second = await pods.start("jobmanager", "sum-jm-0123456789-0", pod);
      await published(atKill + 2_000);
      const after = await pods.status();
      expect(after).toMatchObject({
        jobId: before.jobId,
        submission: before.submission,
        log: { epoch: 2, lineage: "0123456789ab", pins: [] },
      });
      expect(after?.checkpoints.restored?.id).toBeGreaterThanOrEqual(before.checkpoints.latest?.id ?? Infinity);

      expect(await second.exited).toBe(0);
      expect(second.report()).toMatchObject({
        kind: "jobEnded",
        state: "FINISHED",
        log: { uid: "uid-1", submission: "0123456789ab", jobState: "finished", closed: true },
      });
      expect(await taskManager.exited).toBe(0);
      expect(taskManager.report()).toMatchObject({ kind: "stopped", message: "job sum is FINISHED" });
      const lines = output();
      expect(audit(lines, COUNT)).toEqual([]);
      // the auditor sees one record more or less
      expect(audit(lines.toSpliced(77, 1), COUNT)).not.toEqual([]);
      expect(audit([...lines, lines[77] ?? ""], COUNT)).not.toEqual([]);

      // started again by a kubelet that did not notice: it tells the same, and runs nothing
      const third = await pods.start("jobmanager", "sum-jm-0123456789-0", pod);
      expect(await third.exited).toBe(0);
      expect(third.report()).toMatchObject({ kind: "jobEnded", state: "FINISHED" });
      expect(output()).toHaveLength(COUNT);
    },
    TIMEOUT_MS,
  );

  test(
    "a new version: stopped with a savepoint, expected, pinned, unpinned; what comes late or is foreign is refused; Resume takes over",
    async () => {
      open();
      const COUNT = 30_000;
      const load = { count: COUNT, rate: 2_000 };
      const one = config("upgrade", load);
      const jobManager = await pods.start("jobmanager", "sum-jm-0123456789-0", one);
      const taskManager = await pods.start("taskmanager", "sum-tm-0123456789-0", one);
      await published(1_000);
      const { jobId } = await until(() => pods.status());
      const triggerId = "ab".repeat(16);
      expect(await pods.post(`/jobs/${jobId}/stop`, { triggerId })).toEqual({ "request-id": triggerId });
      expect(await jobManager.exited).toBe(0);
      const ended = jobManager.report();
      expect(ended).toMatchObject({ kind: "jobEnded", state: "FINISHED", log: { jobState: "stopped", closed: false } });
      const log = (ended as { readonly log: { readonly headId: number; readonly headPath: string } }).log;
      expect(log.headPath).toMatch(/^s3:\/\/jobs\/upgrade\/_savepoints\/savepoint-/u);
      expect(await taskManager.exited).toBe(0);
      const stopped = output().length;

      // what was decided upon another head, an older start, another owner
      const two = { submission: "222222222222", attempt: "2222222222" };
      const next = (start: Partial<PodConfig["start"]>, changes: Partial<PodConfig> = {}): PodConfig =>
        config("upgrade", load, { ...two, ...changes }, { mayCreate: false, order: [2, 0], ...start });
      const name = "sum-jm-2222222222-0";
      expect(await refusal(name, next({ expectHead: { id: log.headId - 1 } }))).toMatchObject({
        code: "HEAD_MOVED",
        retry: "never",
        message: expect.stringContaining(`its head is checkpoint ${log.headId}`),
      });
      expect(await refusal(name, next({ order: [0, 9] }))).toMatchObject({ code: "FENCED" });
      const stranger = { job: { name: "sum", namespace: "ns", uid: "uid-2" } };
      expect(await refusal(name, next({}, stranger))).toMatchObject({ code: "JOB_FOREIGN" });
      const elsewhere = { job: { name: "other", namespace: "ns", uid: "uid-1" } };
      expect(await refusal(name, next({}, elsewhere))).toMatchObject({
        code: "SNAPSHOT_DAMAGED",
        message: expect.stringContaining("missing although the job has run before"),
      });
      expect(output()).toHaveLength(stopped);

      // a preflight of the new version sees what there is
      const preflight = await pods.start("preflight", "sum-pf-2222222222", next({}));
      expect(await preflight.exited).toBe(0);
      expect(preflight.report()).toMatchObject({ log: { kind: "exists", ...log, jobState: "stopped" } });

      const upgraded = next({ expectHead: { id: log.headId, path: log.headPath } });
      const second = await pods.start("jobmanager", name, upgraded);
      const secondTaskManager = await pods.start("taskmanager", "sum-tm-2222222222-0", upgraded);
      await published(stopped + 1_000);
      const running = await until(async () => {
        const status = await pods.status();
        return status?.checkpoints.latest !== null && status;
      });
      expect(running.checkpoints.restored).toMatchObject({ id: log.headId, path: log.headPath, isSavepoint: true });
      expect(running.log?.pins).toEqual([{ holder: "start:222222222222", id: log.headId, path: log.headPath }]);
      const unpinId = "cd".repeat(16);
      expect(await pods.post(`/jobs/${running.jobId}/unpin`, { triggerId: unpinId })).toEqual({
        "request-id": unpinId,
      });
      const unpinned = await until(async () => {
        const answer = await pods.ask<{ readonly status: { readonly id: string } }>(
          `/jobs/${running.jobId}/unpin/${unpinId}`,
        );
        return answer?.status.id === "COMPLETED" && answer;
      });
      expect(unpinned).toEqual({ status: { id: "COMPLETED" }, operation: {} });
      expect((await pods.status())?.log?.pins).toEqual([]);

      // PJ2: a pod of the same attempt that was replaced does not take the log back
      await killed(second);
      const successor = await pods.start("jobmanager", "sum-jm-2222222222-1", upgraded);
      await until(async () => (await pods.status())?.state === "RUNNING");
      await killed(successor);
      expect(await refusal("sum-jm-2222222222-0", upgraded)).toMatchObject({ code: "FENCED" });
      await killed(secondTaskManager);

      // deleted and applied again: another StreamJob of the name continues what is there, because it says so
      const resumed = next(
        { onForeignLog: "resume", mayCreate: false, order: [1, 0] },
        { job: { name: "sum", namespace: "ns", uid: "uid-3" }, submission: "333333333333", attempt: "3333333333" },
      );
      const third = await pods.start("jobmanager", "sum-jm-3333333333-0", resumed);
      await pods.start("taskmanager", "sum-tm-3333333333-0", resumed);
      const owned = await until(async () => {
        const status = await pods.status();
        return status?.log !== null && status;
      });
      expect(owned.log).toMatchObject({ uid: "uid-3", lineage: "0123456789ab" });
      expect(await third.exited).toBe(0);
      expect(third.report()).toMatchObject({ kind: "jobEnded", state: "FINISHED" });
      expect(audit(output(), COUNT)).toEqual([]);
      // and its former owner does not get it back
      expect(await refusal(name, next({ onForeignLog: "resume", order: [9, 0] }))).toMatchObject({
        code: "JOB_FOREIGN",
      });
    },
    TIMEOUT_MS,
  );
});
