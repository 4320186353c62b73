// `sluice savepoint`, `stop` and `checkpoint`: operations on a running job, watched to their end; and the end of a savepoint.
//
// Invariants:
//   SP1. An operation has an id of its own from the beginning: asked again after a lost answer it is the same operation.
//   SP2. A JobManager that is away for a while is no failure: the next one knows the operation.
//   SP3. The last line says what is now true and what can be done with it.
//
// Not here: options and help (savepoint-commands.ts).

import { existsSync, readdirSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";

import type { CheckpointStatusMessage, SavepointStatusMessage } from "@sluice/api";
import { Failure, failureFromJson, toFailure } from "@sluice/kit";
import type { FailureCode } from "@sluice/kit";
import type { ObjectStore } from "@sluice/kit/env";
import { NodeClock, nodeRng, NodeTimers } from "@sluice/kit/env/node";
import { cachedOpener, disposeSavepoint } from "@sluice/runtime/internal/checkpoint";

import { findRest } from "./ask.ts";
import { openStoreAt, uriOf } from "./open-store.ts";
import { newOperationId, type RestClient } from "./rest-client.ts";

const RUNS_DIR = ".sluice";
const POLL_MS = 150;
/** Longer than a JobManager needs to be started again. */
const ABSENCE_MAX_MS = 60_000;

export interface OperationReport {
  readonly lines: readonly string[];
  readonly json: Readonly<Record<string, unknown>>;
}

/** Told while an operation runs: what of it is done. */
export type OnProgress = (line: string) => void;

/** Takes a savepoint of a running job. */
export async function takeSavepoint(
  target: string,
  options: { readonly directory: string | undefined; readonly onProgress: OnProgress },
): Promise<OperationReport> {
  const rest = findRest(target);
  const { name, jobId } = await identify(rest);
  const startedMs = performance.now();
  const status = await operate<SavepointStatusMessage>(rest, {
    path: `/jobs/${jobId}/savepoints`,
    statusPath: (id) => `/jobs/${jobId}/savepoints/${id}`,
    body: targetOf("target-directory", options.directory),
    onProgress: options.onProgress,
  });
  const location = locationOf(status, `no savepoint of job ${name} was taken`);
  const tookMs = performance.now() - startedMs;
  return {
    lines: [
      `savepoint of job ${name}, taken in ${seconds(tookMs)}:`,
      location,
      `The job runs on. Start another one from it: sluice run JOB --name OTHER --from ${location}`,
    ],
    json: { job: name, location, durationMs: Math.round(tookMs) },
  };
}

/** Stops a running job with a savepoint. */
export async function stopJob(
  target: string,
  options: { readonly directory: string | undefined; readonly drain: boolean; readonly onProgress: OnProgress },
): Promise<OperationReport> {
  const rest = findRest(target);
  const { name, jobId } = await identify(rest);
  const startedMs = performance.now();
  const status = await operate<SavepointStatusMessage>(rest, {
    path: `/jobs/${jobId}/stop`,
    statusPath: (id) => `/jobs/${jobId}/savepoints/${id}`,
    body: { ...targetOf("targetDirectory", options.directory), drain: options.drain },
    onProgress: options.onProgress,
  });
  const location = locationOf(status, `job ${name} was not stopped and goes on`);
  const tookMs = performance.now() - startedMs;
  const next = options.drain
    ? "Its input was ended for good. To start from here all the same: sluice run JOB --from with this savepoint."
    : `To go on, run it again under the name ${name}.`;
  return {
    lines: [
      `job ${name} ${options.drain ? "was drained" : "stops"} with the savepoint, taken in ${seconds(tookMs)}:`,
      location,
      next,
    ],
    json: { job: name, location, drained: options.drain, durationMs: Math.round(tookMs) },
  };
}

/** Takes a checkpoint at once, beside the periodic ones. */
export async function takeCheckpoint(
  target: string,
  options: { readonly onProgress: OnProgress },
): Promise<OperationReport> {
  const rest = findRest(target);
  const { name, jobId } = await identify(rest);
  const startedMs = performance.now();
  const status = await operate<CheckpointStatusMessage>(rest, {
    path: `/jobs/${jobId}/checkpoints`,
    statusPath: (id) => `/jobs/${jobId}/checkpoints/${id}`,
    body: {},
    onProgress: options.onProgress,
  });
  const { operation } = status;
  refuse(operation?.["failure-cause"], `no checkpoint of job ${name} was taken`);
  const checkpointId = operation?.checkpointId;
  const tookMs = performance.now() - startedMs;
  return {
    lines: [`checkpoint ${checkpointId ?? "?"} of job ${name}, taken in ${seconds(tookMs)}`],
    json: { job: name, checkpointId: checkpointId ?? null, durationMs: Math.round(tookMs) },
  };
}

/**
 * Deletes one savepoint, unless a job needs it: the jobs whose checkpoints lie in `stores`, or in the runs below the current directory.
 */
export async function dispose(
  savepoint: string,
  options: { readonly stores: readonly string[]; readonly define: Readonly<Record<string, string>> },
): Promise<OperationReport> {
  const places = options.stores.length > 0 ? options.stores : storesOfRuns();
  const stores: ObjectStore[] = [];
  for (const place of places) stores.push(await openStoreAt(place, options.define));
  const { location } = await disposeSavepoint({
    name: uriOf(savepoint),
    stores,
    openStore: cachedOpener((uri) => openStoreAt(uri, options.define)),
    env: { clock: new NodeClock(), timers: new NodeTimers(), rng: nodeRng() },
    signal: new AbortController().signal,
  });
  const asked = places.length === 0 ? "; no checkpoint store was asked whether a job needs it" : "";
  return { lines: [`savepoint ${location} is deleted${asked}`], json: { location, deleted: true, stores: places } };
}

function storesOfRuns(): readonly string[] {
  if (!existsSync(RUNS_DIR)) return [];
  return readdirSync(RUNS_DIR)
    .map((name) => join(RUNS_DIR, name, "checkpoints"))
    .filter((path) => existsSync(path));
}

async function identify(rest: RestClient): Promise<{ readonly name: string; readonly jobId: string }> {
  const job = await rest.job();
  return { name: job.name, jobId: job.jid };
}

function targetOf(field: string, directory: string | undefined): Readonly<Record<string, string>> {
  return directory === undefined ? {} : { [field]: uriOf(directory) };
}

/** SP1, SP2. */
async function operate<Status extends { readonly status: { readonly id: string } }>(
  rest: RestClient,
  what: {
    readonly path: string;
    readonly statusPath: (id: string) => string;
    readonly body: Readonly<Record<string, unknown>>;
    readonly onProgress: OnProgress;
  },
): Promise<Status> {
  const id = newOperationId();
  let absentSinceMs: number | undefined;
  let isBegun = false;
  const startedMs = performance.now();
  for (;;) {
    try {
      if (!isBegun) {
        await rest.post(what.path, { ...what.body, triggerId: id }, id);
        isBegun = true;
      }
      const status = await rest.get<Status>(what.statusPath(id));
      absentSinceMs = undefined;
      if (status.status.id === "COMPLETED") return status;
      what.onProgress(`${await progressOf(rest)}${seconds(performance.now() - startedMs)}`);
    } catch (thrown) {
      const failure = toFailure(thrown);
      if (failure.code !== "PEER_LOST") throw thrown;
      absentSinceMs ??= performance.now();
      if (performance.now() - absentSinceMs > ABSENCE_MAX_MS) throw thrown;
      what.onProgress(`waiting for the JobManager (${failure.message})`);
    }
    await sleep(POLL_MS);
  }
}

/** Of the newest checkpoint or savepoint in progress. */
async function progressOf(rest: RestClient): Promise<string> {
  const { history } = await rest.checkpoints();
  const current = history.find(({ status }) => status === "IN_PROGRESS");
  if (current === undefined) return "waiting for all tasks to run, ";
  const megabytes = (current.state_size / 1e6).toFixed(1);
  return `${current.num_acknowledged_subtasks} of ${current.num_subtasks} subtasks, ${megabytes} MB, `;
}

function locationOf({ operation }: SavepointStatusMessage, what: string): string {
  refuse(operation?.["failure-cause"], what);
  const location = operation?.location;
  if (location !== undefined) return location;
  throw new Failure("INTERNAL", { retry: "never", message: `${what}: the JobManager does not say where it lies` });
}

function refuse(cause: { readonly class: string; readonly "stack-trace": string } | undefined, what: string): void {
  if (cause === undefined) return;
  const [reason = ""] = cause["stack-trace"].split("\n");
  const words = reason.startsWith(`${cause.class}: `) ? reason.slice(cause.class.length + 2) : reason;
  const code = cause.class as FailureCode; // an unknown one becomes INTERNAL
  throw failureFromJson({ code, retry: "never", message: `${what}: ${words}`, remedy: "", stack: "" });
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}
