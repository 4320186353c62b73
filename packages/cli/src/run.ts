// `sluice run`: a job on this machine, from plan to end, watched.
//
// Invariants:
//   RU1. The last thing said is how the job ended: what, where, what to do.
//   RU2. The first Ctrl-C cancels the job, the second kills its processes; SIGTERM and SIGHUP stop them so that the job can go on.
//   RU3. A JobManager that is down for a moment is no error of the watching.

import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { describeFailure, Failure, toFailure } from "@sluice/kit";
import { PROCESS_ENTRIES } from "@sluice/runtime/internal/bin";
import { configurationOf, parseConfiguration, ProcessOptions } from "@sluice/runtime/internal/model";

import { JsonDisplay, PlainDisplay, TerminalDisplay } from "./display.ts";
import type { Display } from "./display.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { startLocalCluster } from "./local-cluster.ts";
import type { ClusterEvent, JobOutcome, LocalCluster } from "./local-cluster.ts";
import { progressOf, RESTORE_METRICS, restoredLine } from "./progress.ts";
import type { Progress } from "./progress.ts";

export interface RunOptions {
  readonly job: string;
  readonly arguments: readonly string[];
  readonly name: string | undefined;
  readonly configuration: Readonly<Record<string, string>>;
  readonly taskManagers: number;
  readonly slots: number | undefined;
  /** Undefined: the configured one, and any free one when that is taken. */
  readonly restPort: number | undefined;
  readonly workDir: string | undefined;
  readonly from: string | undefined;
  readonly newLineage: boolean;
  readonly lineage: string | undefined;
  readonly plain: boolean;
  readonly json: boolean;
}

/** Where our own frames are; the others are the user's. With --enable-source-maps the frames of a package are those of its src. */
const OUR_SOURCES = [
  new URL("..", PROCESS_ENTRIES.taskManager),
  new URL(".", import.meta.resolve("@sluice/kit")),
].flatMap((folder) => [new URL("../src/", folder).href, new URL("../dist/", folder).href]);
const FRAMES_MAX = 8;
const POLL_INTERVAL_MS = 500;
/** Rates are taken over this many polls: counters arrive with heartbeats, not with polls. */
const RATE_POLLS = 8;
const CANCEL_TIMEOUT_MS = 60_000;
/** After this long without a claimed log people are told what it waits for. */
const INITIALIZING_SHOWN_MS = 5_000;
/** Interrupts closer than this are one. */
const SAME_INTERRUPT_MS = 500;

/** Runs to the end and gives the exit code. Rejects with the Failure of a wrong input. */
export async function runJob(options: RunOptions): Promise<number> {
  const display = chooseDisplay(options);
  const restPort = await findRestPort(options);
  let cluster: LocalCluster | undefined;
  const stops = listenToSignals(() => cluster, display);
  try {
    display.notice({ kind: "planning", text: `planning ${options.job}` });
    cluster = await startLocalCluster({
      job: options.job,
      arguments: options.arguments,
      configuration: options.configuration,
      taskManagers: options.taskManagers,
      restPort,
      newLineage: options.newLineage,
      onEvent: (event) => tell(display, event),
      ...(options.name === undefined ? {} : { name: options.name }),
      ...(options.slots === undefined ? {} : { slots: options.slots }),
      ...(options.workDir === undefined ? {} : { workDir: options.workDir }),
      ...(options.from === undefined ? {} : { from: options.from }),
      ...(options.lineage === undefined ? {} : { lineage: options.lineage }),
    });
    introduce(display, cluster);
    const watching = watch(cluster, display);
    const outcome = await cluster.waitForEnd();
    await watching;
    display.close();
    return conclude(display, cluster, outcome);
  } finally {
    stops();
  }
}

function chooseDisplay(options: RunOptions): Display {
  if (options.json) return new JsonDisplay(process.stdout);
  if (options.plain || !process.stdout.isTTY) return new PlainDisplay(process.stdout, () => performance.now());
  return new TerminalDisplay(process.stdout);
}

function introduce(display: Display, cluster: LocalCluster): void {
  if (cluster.mainOutput.trim() !== "") display.notice({ kind: "mainOutput", text: cluster.mainOutput.trimEnd() });
  for (const warning of cluster.warnings) display.notice({ kind: "warning", text: `warning: ${warning}` });
  const { store } = cluster;
  const place =
    store === undefined
      ? "no checkpoints (execution.checkpointing.interval is not set): a failure loses the state of the job"
      : `checkpoints in ${store.uri}${cluster.isDefaultStore ? " (default; --dir sets another place)" : ""}`;
  const taskManagers = cluster.processes().length - 1;
  display.notice({
    kind: "started",
    text: [
      `job ${cluster.name}: ${plural(taskManagers, "TaskManager")} with ${plural(cluster.slotsPerTaskManager, "slot")} each`,
      place,
      `REST ${cluster.restUrl() ?? "is not up"}, logs in ${cluster.workDir}/logs`,
    ].join("\n"),
    fields: {
      name: cluster.name,
      restUrl: cluster.restUrl() ?? null,
      store: store?.uri ?? null,
      workDir: cluster.workDir,
      lineage: cluster.lineage,
    },
  });
}

function tell(display: Display, event: ClusterEvent): void {
  const id = event.process.kind === "jobmanager" ? "JobManager" : `TaskManager ${event.process.index + 1}`;
  const fields = { process: event.process.kind, index: event.process.index };
  switch (event.type) {
    case "started":
      if (event.starts === 1) return;
      display.notice({
        kind: "restarted",
        text: `${id} was started again (process ${event.pid})`,
        fields: { ...fields, pid: event.pid },
      });
      return;
    case "restarting":
      display.notice({
        kind: "died",
        text: `${id} died (${event.reason}); it is started again in ${Math.round(event.delayMs)} ms`,
        fields: { ...fields, reason: event.reason, delayMs: event.delayMs },
      });
      return;
    case "printed":
      display.notice({ kind: "printed", text: `[${id}] ${event.line}`, fields });
      return;
    case "said":
    case "exited":
    case "gaveUp":
      return; // told by the outcome, or not worth a line
  }
}

/** Follows the job until it has ended. */
async function watch(cluster: LocalCluster, display: Display): Promise<void> {
  const recent: Progress[] = [];
  let isWaitTold = false;
  let newestAtMs = 0;
  let restoredAtMs = 0;
  while (cluster.outcome === undefined) {
    try {
      const { rest } = cluster;
      const [job, checkpoints, overview, metrics, exceptions] = await Promise.all([
        rest.job(),
        rest.checkpoints(),
        rest.overview(),
        rest.metrics(["numRestarts", ...RESTORE_METRICS]),
        rest.exceptions(),
      ]);
      const restarts = metrics.numRestarts ?? 0;
      const { lastRestoreFinishedTimestamp: finishedAtMs = -1 } = metrics;
      if (finishedAtMs > restoredAtMs) {
        restoredAtMs = finishedAtMs;
        const { numRestarts: _, ...fields } = metrics;
        display.notice({ kind: "restored", text: restoredLine(metrics), fields });
      }
      const [exception] = exceptions.exceptionHistory.entries;
      if (exception !== undefined && exception.timestamp > newestAtMs) {
        newestAtMs = exception.timestamp;
        const where = exception.taskName === null ? "" : ` in ${exception.taskName}`;
        const [first = ""] = exception.stacktrace.split("\n");
        display.notice({ kind: "failure", text: `failure${where}: ${first}`, fields: { task: exception.taskName } });
      }
      if (job.state === "INITIALIZING" && job.duration > INITIALIZING_SHOWN_MS && !isWaitTold) {
        isWaitTold = true;
        const text = `the JobManager cannot reach ${cluster.store?.uri ?? "its store"} and tries again; why is in ${cluster.workDir}/logs/jobmanager.log`;
        display.notice({ kind: "warning", text });
      }
      const progress = progressOf({ job, checkpoints, overview, restarts }, recent[0]);
      recent.push(progress);
      if (recent.length > RATE_POLLS) recent.shift();
      display.progress(progress);
    } catch {
      // RU3: it is asked again
    }
    await Promise.race([sleep(POLL_INTERVAL_MS), ended(cluster)]);
  }
}

async function ended(cluster: LocalCluster): Promise<void> {
  await cluster.waitForEnd();
}

/** RU1. */
function conclude(display: Display, cluster: LocalCluster, outcome: JobOutcome): number {
  const fields = { state: outcome.state, message: outcome.message };
  switch (outcome.state) {
    case "FINISHED":
    case "CANCELED": {
      const again = outcome.state === "CANCELED" && cluster.store !== undefined ? "; run it again to continue" : "";
      display.notice({ kind: "ended", text: `${outcome.message}${again}`, fields });
      return EXIT.ok;
    }
    case "STOPPED":
      display.notice({ kind: "ended", text: `${outcome.message}; run it again`, fields });
      return EXIT.stopped;
    case "FAILED": {
      const { failure } = outcome;
      const what = withoutOurFrames(failure === undefined ? outcome.message : describeFailure(failure));
      const frames = framesOf(what).length > 0 ? [] : framesOf(withoutOurFrames(outcome.details));
      const logs = `  Logs: ${cluster.workDir}/logs`;
      const isRefused = failure !== undefined && exitCodeOf(failure) === EXIT.usage;
      const headline = `job ${cluster.name} ${isRefused ? "was not started" : "FAILED"}: ${what}`;
      const text = [headline, ...frames, logs].join("\n");
      display.notice({ kind: "ended", text, fields: { ...fields, code: failure?.code ?? null } });
      return failure === undefined ? EXIT.failed : exitCodeOf(failure);
    }
  }
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A failure as its user needs it: of a stack only the frames of the user's code, unless it is a bug of ours. */
function withoutOurFrames(text: string): string {
  if (/\bINTERNAL\b|AssertionError/.test(text)) return text;
  const lines = text
    .split("\n")
    .filter(
      (line) => !isFrame(line) || (line.includes("file:") && !OUR_SOURCES.some((source) => line.includes(source))),
    );
  // The head of a stack without frames only says again what the message said.
  return (lines.some(isFrame) ? lines : lines.filter((line) => !line.startsWith("Failure: "))).join("\n");
}

function framesOf(text: string): readonly string[] {
  return text.split("\n").filter(isFrame).slice(0, FRAMES_MAX);
}

function isFrame(line: string): boolean {
  return /^\s+at /.test(line);
}

/** RU2. Returns how to take the listeners back. */
function listenToSignals(cluster: () => LocalCluster | undefined, display: Display): () => void {
  let interrupts = 0;
  let interruptedAtMs = Number.NEGATIVE_INFINITY;
  const onInterrupt = (): void => {
    // npm and other parents pass on what the terminal has sent to all of us already: that is one Ctrl-C
    const nowMs = performance.now();
    if (nowMs - interruptedAtMs < SAME_INTERRUPT_MS) return;
    interruptedAtMs = nowMs;
    interrupts += 1;
    const running = cluster();
    if (running === undefined) process.exit(128 + 2); // still planning: nothing to undo
    if (interrupts === 1) {
      display.notice({ kind: "cancelling", text: "cancelling the job; Ctrl-C again kills its processes" });
      cancelOrStop(running).catch((thrown: unknown) => {
        display.notice({ kind: "warning", text: `it could not be cancelled: ${toFailure(thrown).message}` });
      });
      return;
    }
    display.notice({ kind: "killing", text: "killing its processes" });
    void running.stop(0);
  };
  const onStop = (): void => {
    const running = cluster();
    if (running === undefined) process.exit(EXIT.stopped);
    void running.stop();
  };
  process.on("SIGINT", onInterrupt);
  process.on("SIGTERM", onStop);
  process.on("SIGHUP", onStop);
  return () => {
    process.off("SIGINT", onInterrupt);
    process.off("SIGTERM", onStop);
    process.off("SIGHUP", onStop);
  };
}

/** A job that waits for its store has not begun: there is nothing to cancel, and nowhere to write it down. */
async function cancelOrStop(cluster: LocalCluster): Promise<void> {
  const state = await cluster.rest.job().then(
    (job) => job.state,
    () => undefined,
  );
  await (state === "INITIALIZING" ? cluster.stop() : cluster.cancel(CANCEL_TIMEOUT_MS));
}

/** A port that was asked for must be free; the default one may be replaced by any other. */
async function findRestPort(options: RunOptions): Promise<number> {
  const entries = Object.entries(options.configuration);
  const typed = parseConfiguration(entries.map(([key, value]) => ({ key, value, origin: "command line" })));
  const asked =
    options.restPort ?? (typed.isSet(ProcessOptions.REST_PORT) ? typed.get(ProcessOptions.REST_PORT) : undefined);
  const port = asked ?? configurationOf({}).get(ProcessOptions.REST_PORT);
  if (port === 0 || (await isFree(port))) return port;
  if (asked === undefined) return 0;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `port ${port} for REST is taken by another program`,
    remedy: "Give another --rest-port, or 0 for any free one.",
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
