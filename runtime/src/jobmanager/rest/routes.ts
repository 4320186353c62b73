// REST as a pure function: a request and a view of the JobManager give an answer.
//
// Invariants:
//   RR1. No path reads anything but the view; the only effect is a command of the view.
//   RR2. Every answer of 400 and above is `{"errors": [message]}`, one message that says what was asked and what is wrong.
//   RR3. Unknown paths, also those of Flink that are not implemented, are 404 in Flink's words.
//
// Not here: HTTP (server.ts), Prometheus (../metrics).

import type { JobIdsMessage } from "@sluice/api";
import { toFailure } from "@sluice/kit";
import { jobMetricTexts } from "../metrics/job-values.ts";
import { checkpointConfig, checkpointDetails, checkpointing, checkpointSubtasks } from "./checkpoint-messages.ts";
import { clusterConfig, clusterOverview, taskManager } from "./cluster-messages.ts";
import { jobConfig, jobDetails, jobExceptions, jobOverview, jobPlan } from "./job-messages.ts";
import type { JobManagerView, JobView } from "./source.ts";

export interface RestRequest {
  readonly method: string;
  /** Without query, as sent: `/jobs/abc`. */
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
}

export interface RestResponse {
  readonly status: number;
  readonly body: unknown;
}

/** Flink: web.exception-history-size. */
const EXCEPTIONS_MAX = 16;

/** Answers one request (RR1). Never rejects: failures of commands become answers. */
export async function answer(request: RestRequest, view: JobManagerView): Promise<RestResponse> {
  try {
    return await route(request, view);
  } catch (thrown) {
    const failure = toFailure(thrown);
    const remedy = failure.remedy === "" ? "" : ` ${failure.remedy}`;
    return error(500, `${failure.code}: ${failure.message}.${remedy}`);
  }
}

function error(status: number, message: string): RestResponse {
  return { status, body: { errors: [message] } };
}

function ok(body: unknown): RestResponse {
  return { status: 200, body };
}

async function route(request: RestRequest, view: JobManagerView): Promise<RestResponse> {
  const segments = request.path.split("/").filter((segment) => segment !== "");
  if (segments[0] === "v1") segments.shift();
  const [first, second, ...rest] = segments;
  if (first === "jobs" && second !== undefined && second !== "overview") {
    const found = findJob(second, view);
    return "status" in found ? found : await routeJob(request, view, found.job, rest);
  }
  const read = readCluster(request, segments, view);
  if (read === undefined) return error(404, `Unable to load requested file ${request.path}.`);
  return isRead(request) ? ok(read) : notAllowed(request);
}

function readCluster(_request: RestRequest, segments: readonly string[], view: JobManagerView): unknown {
  switch (segments.join("/")) {
    case "overview":
      return clusterOverview(view);
    case "config":
      return clusterConfig();
    case "jobs": {
      const job = view.job();
      return { jobs: [{ id: job.jid, status: job.state }] } satisfies JobIdsMessage;
    }
    case "jobs/overview":
      return { jobs: [jobOverview(view.job(), view.wallMs())] };
    case "taskmanagers":
      return { taskmanagers: view.taskManagers().map(taskManager) };
    default:
      return undefined;
  }
}

function findJob(jid: string, view: JobManagerView): RestResponse | { readonly job: JobView } {
  if (!/^[0-9a-f]{32}$/i.test(jid)) {
    return error(
      400,
      `Bad request, could not parse parameters: Cannot resolve path parameter (jobid) from value "${jid}".`,
    );
  }
  const job = view.job();
  return job.jid === jid.toLowerCase() ? { job } : error(404, `Job ${jid} not found`);
}

async function routeJob(
  request: RestRequest,
  view: JobManagerView,
  job: JobView,
  rest: readonly string[],
): Promise<RestResponse> {
  if (rest.length === 0 && request.method === "PATCH") return await terminate(request, view, job);
  const read = readJob(request, view, job, rest);
  if (read === undefined) return error(404, `Unable to load requested file ${request.path}.`);
  return isRead(request) ? read : notAllowed(request);
}

function readJob(
  request: RestRequest,
  view: JobManagerView,
  job: JobView,
  rest: readonly string[],
): RestResponse | undefined {
  const [what, ...more] = rest;
  if (what === "checkpoints") return readCheckpoints(job, more);
  if (more.length > 0) return undefined;
  switch (what) {
    case undefined:
      return ok(jobDetails(job, view.wallMs()));
    case "status":
      return ok({ status: job.state });
    case "plan":
      return ok(jobPlan(job));
    case "config":
      return ok(jobConfig(job));
    case "exceptions":
      return exceptions(request, job);
    case "metrics":
      return ok(metrics(request, view, job));
    default:
      return undefined;
  }
}

function readCheckpoints(job: JobView, rest: readonly string[]): RestResponse | undefined {
  const [what, idText, subtasks, vertexId, ...more] = rest;
  if (what === undefined) return ok(checkpointing(job));
  if (what === "config" && idText === undefined) return ok(checkpointConfig(job));
  if (what !== "details" || idText === undefined || more.length > 0) return undefined;
  const id = /^\d{1,15}$/.test(idText) ? Number(idText) : undefined;
  if (id === undefined) {
    return error(
      400,
      `Bad request, could not parse parameters: Cannot resolve path parameter (checkpointid) from value "${idText}".`,
    );
  }
  const details = checkpointDetails(job, id);
  if (details === undefined) return error(404, `Could not find checkpointing statistics for checkpoint ${id}.`);
  if (subtasks === undefined) return ok(details);
  if (subtasks !== "subtasks" || vertexId === undefined) return undefined;
  const message = checkpointSubtasks(job, id, vertexId);
  return message === undefined ? error(404, `JobVertex ${vertexId} not found`) : ok(message);
}

function exceptions(request: RestRequest, job: JobView): RestResponse {
  const text = request.query["maxExceptions"];
  if (text !== undefined && !/^\d{1,9}$/.test(text)) {
    return error(400, `Cannot resolve query parameter (maxExceptions) from value "${text}".`);
  }
  return ok(jobExceptions(job, text === undefined ? EXCEPTIONS_MAX : Number(text)));
}

function metrics(request: RestRequest, view: JobManagerView, job: JobView): unknown {
  const texts = jobMetricTexts(job, view.wallMs());
  const wanted = request.query["get"];
  if (wanted === undefined) return [...texts.keys()].map((id) => ({ id }));
  return wanted.split(",").flatMap((id) => (texts.has(id) ? [{ id, value: texts.get(id) as string }] : []));
}

/** PATCH /jobs/:id?mode=cancel. Flink: JobCancellationHandler. */
async function terminate(request: RestRequest, view: JobManagerView, job: JobView): Promise<RestResponse> {
  const mode = request.query["mode"] ?? "cancel";
  if (mode === "stop") {
    return error(410, 'The termination mode "stop" was removed in Flink; cancel the job with mode=cancel.');
  }
  if (mode !== "cancel") return error(400, `Cannot resolve query parameter (mode) from value "${mode}".`);
  if (job.state === "FINISHED" || job.state === "FAILED") {
    return error(
      409,
      `Job cancellation failed because the job has already reached another terminal state (${job.state}).`,
    );
  }
  await view.startOperation(view.newOperationId(), { kind: "cancel" });
  return { status: 202, body: {} };
}

function isRead(request: RestRequest): boolean {
  return request.method === "GET" || request.method === "HEAD";
}

function notAllowed(request: RestRequest): RestResponse {
  return error(405, `${request.path} does not take ${request.method}.`);
}
