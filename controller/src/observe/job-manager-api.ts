// The seam to a JobManager's REST interface, and what its answers mean.
//
// Invariants:
//   JM1. Answers are foreign: checked against their description, and nothing of an answer that does not fit is used.
//   JM2. An answer of another submission is none: an old JobManager may hold an address that is ours now.
//   JM3. No answer is a result, not a failure: JobManagers start, restart and end all the time.
//
// Real: main/rest.ts. Simulated: the operator's world (controller/src/testing).

import { OPERATION_ID_HEADER, problemsOf, SavepointStatusMessage, SluiceStatusMessage } from "@sluice/api";
import type { Schema, SnapshotSummary } from "@sluice/api";

import type { JobManagerView, OperationView, SnapshotView } from "./observed.ts";

/** Whom to ask, and with which attempt's token. */
export interface RestAddress {
  readonly podIp: string;
  readonly uid: string;
  readonly attempt: string;
}

export interface RestRequest {
  readonly method: "GET" | "POST" | "PATCH";
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** What was answered; `body` is undefined when it was no JSON. */
export interface RestAnswer {
  readonly status: number;
  readonly body: unknown;
}

export interface JobManagerApi {
  /** Undefined: nobody answered in time (JM3). For a request that changes something the outcome is unknown then. */
  request(at: RestAddress, request: RestRequest, signal: AbortSignal): Promise<RestAnswer | undefined>;
}

function fitting<T>(schema: Schema<T>, answer: RestAnswer | undefined): T | undefined {
  if (answer === undefined || answer.status !== 200) return undefined;
  return problemsOf(schema, answer.body, { allowsUnknownFields: true }).length === 0 ? (answer.body as T) : undefined;
}

/** The JobManager of `submission`, when it answers (JM1, JM2). `run`: which run of its container is asked. */
export async function askStatus(
  api: JobManagerApi,
  at: RestAddress,
  expected: { readonly submission: string; readonly run: string },
  signal: AbortSignal,
): Promise<JobManagerView | undefined> {
  const status = fitting(SluiceStatusMessage, await api.request(at, { method: "GET", path: "/sluice/status" }, signal));
  if (status === undefined || status.submission !== expected.submission) return undefined;
  const { failure, checkpoints } = status;
  return {
    run: expected.run,
    jobId: status.jobId,
    state: status.state,
    isRunning: status.state === "RUNNING" && status.taskManagers.slots >= status.taskManagers.slotsRequired,
    restarts: status.restarts,
    failure: failure === null ? undefined : { code: failure.code, message: failure.message },
    registeredTaskManagers: status.taskManagers.registered.length,
    completedCheckpoints: checkpoints.completed,
    lastCheckpoint: snapshot(checkpoints.latest),
    lastSavepoint: snapshot(checkpoints.latestSavepoint),
    keepsForStarts: status.log?.pins.some(({ holder }) => holder.startsWith("start:")) === true,
  };
}

function snapshot(summary: SnapshotSummary | null): SnapshotView | undefined {
  if (summary === null) return undefined;
  const { id, path, completedAtMs, sizeBytes } = summary;
  return { id, path, completedAtMs, sizeBytes };
}

/** What came of a stop with a savepoint. */
export async function askStop(
  api: JobManagerApi,
  at: RestAddress,
  of: { readonly jobId: string; readonly triggerId: string },
  signal: AbortSignal,
): Promise<OperationView | undefined> {
  const path = `/jobs/${of.jobId}/savepoints/${of.triggerId}`;
  const answer = await api.request(at, { method: "GET", path }, signal);
  if (answer?.status === 404) return { type: "unknown" };
  const message = fitting(SavepointStatusMessage, answer);
  if (message === undefined) return undefined;
  if (message.status.id === "IN_PROGRESS" || message.operation === null) return { type: "running" };
  const { location, "failure-cause": cause } = message.operation;
  if (location !== undefined) return { type: "completed", location };
  return { type: "failed", message: cause === undefined ? "no reason was given" : firstLine(cause["stack-trace"]) };
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0]?.slice(0, 500) ?? "";
}

export function stopRequest(jobId: string, triggerId: string): RestRequest {
  return { method: "POST", path: `/jobs/${jobId}/stop`, body: { drain: false, triggerId } };
}

export function cancelRequest(jobId: string, operationId: string): RestRequest {
  return {
    method: "PATCH",
    path: `/jobs/${jobId}?mode=cancel`,
    headers: { [OPERATION_ID_HEADER]: operationId },
  };
}

export function unpinRequest(jobId: string, triggerId: string): RestRequest {
  return { method: "POST", path: `/jobs/${jobId}/unpin`, body: { triggerId } };
}
