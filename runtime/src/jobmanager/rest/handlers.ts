// One handler per route of packages/api: request and sources in, message out.
//
// Invariants:
//   RR1. Nothing but the sources is read; the only effects are operations of the view and `shutDown` of the process.
//   RR2. What cannot be answered is thrown as a Refusal, or as the Failure of a command.
//
// Not here: finding the handler, errors as answers (routes.ts), HTTP (rest-server.ts), Prometheus (../metrics).

import { openApiDocument } from "@sluice/api";
import type { Message, REST_ROUTES, RouteName, RouteParameters } from "@sluice/api";
import { failureFromJson } from "@sluice/kit";
import type { OperationRequest } from "../../checkpoint/index.ts";
import { jobMetricTexts } from "../metrics/job-values.ts";
import { subtaskMetricTexts } from "../metrics/subtask-values.ts";
import { checkpointConfig, checkpointDetails, checkpointing, checkpointSubtasks } from "./checkpoint-messages.ts";
import {
  clusterConfig,
  clusterMetrics,
  clusterOverview,
  configurationMessage,
  environmentMessage,
  logList,
  taskManager,
  taskManagerDetails,
} from "./cluster-messages.ts";
import { executionResult, jobConfig, jobDetails, jobExceptions, jobOverview, jobPlan } from "./job-messages.ts";
import { aggregatedMetrics, indicesOf, metricsMessage, namesOf } from "./metric-messages.ts";
import {
  checkpointStatus,
  disposalStatus,
  findOperation,
  refuseRescale,
  refuseSavepointTarget,
  rescaleRequest,
  savepointRequest,
  savepointStatus,
  stopRequest,
} from "./operation-messages.ts";
import { Refusal } from "./refusal.ts";
import { isTerminal } from "./source.ts";
import type { JobManagerView, JobView, ProcessView, RestSource, TaskManagerView } from "./source.ts";
import { sluiceStatus } from "./status-message.ts";
import {
  backPressure,
  findAttempt,
  findSubtask,
  findVertex,
  subtaskMessage,
  subtasksAccumulators,
  subtaskTimes,
  vertexMessage,
  vertexTaskManagers,
} from "./vertex-messages.ts";
import type { Vertex } from "./vertex-messages.ts";

type Route<N extends RouteName> = (typeof REST_ROUTES)[N];

export interface HandlerRequest<N extends RouteName> {
  readonly params: RouteParameters<N>;
  readonly query: Readonly<Record<string, string>>;
  /** Checked against the route's description. */
  readonly body: Route<N> extends { readonly body: infer B } ? Message<B> : undefined;
  /** From the header; undefined: none was given. */
  readonly operationId: string | undefined;
}

/** A message of the route, or its text. */
export type HandlerAnswer<N extends RouteName> = Route<N>["response"] extends "text/plain"
  ? string
  : Message<Route<N>["response"]>;

export type Handler<N extends RouteName> = (
  request: HandlerRequest<N>,
  source: RestSource,
  /** The job that the path names; the JobManager's own where it names none. */
  job: JobView,
) => HandlerAnswer<N> | Promise<HandlerAnswer<N>>;

/** /metrics is rendered by the HTTP shell. */
export type HandlerName = Exclude<RouteName, "prometheus">;

const NO_ACCUMULATORS = { "user-accumulators": [] };

export const HANDLERS: { readonly [N in HandlerName]: Handler<N> } = {
  health: () => ({ status: "alive" }),
  openApi: () => openApiDocument(),
  sluiceStatus: (_, { view }, job) => sluiceStatus(view, job),

  overview: (_, { view }) => clusterOverview(view),
  config: () => clusterConfig(),
  datasets: () => ({ dataSets: [] }),
  shutdown: (_, { own }) => {
    own.shutDown();
    return {};
  },
  jobManagerConfig: (_request, _source, job) => configurationMessage(job),
  jobManagerEnvironment: (_, { own }) => environmentMessage(own),
  jobManagerMetrics: ({ query }, { view, own }) => {
    const numbers = [...Object.entries(own.metrics()), ...clusterMetrics(view)];
    return metricsMessage(new Map(numbers.map(([name, value]) => [name, String(value)])), query);
  },
  jobManagerLogs: (_, { own }) => logList(own),
  jobManagerLog: (_, { own }) => own.log().text,
  jobManagerLogFile: ({ params }, { own }) => logFile(own, params.filename),
  taskManagers: (_, { view }) => ({ taskmanagers: view.taskManagers().map(taskManager) }),
  taskManagersMetrics: ({ query }, { view }) => {
    const wanted = namesOf(query, "taskmanagers");
    const chosen = view.taskManagers().filter(({ id }) => wanted === undefined || wanted.includes(id));
    return aggregatedMetrics(chosen.map(taskManagerTexts), query);
  },
  taskManager: ({ params }, source, job) => taskManagerDetails(findTaskManager(source, params.taskmanagerid), job),
  taskManagerMetrics: ({ params, query }, source) =>
    metricsMessage(taskManagerTexts(findTaskManager(source, params.taskmanagerid)), query),

  jobs: (_request, _source, job) => ({ jobs: [{ id: job.jid, status: job.state }] }),
  jobsOverview: (_, { view }, job) => ({ jobs: [jobOverview(job, view.wallMs())] }),
  jobsMetrics: ({ query }, { view }, job) => {
    const wanted = namesOf(query, "jobs");
    const isWanted = wanted === undefined || wanted.some((jid) => jid.toLowerCase() === job.jid);
    return aggregatedMetrics(isWanted ? [jobMetricTexts(job, view.wallMs())] : [], query);
  },
  job: (_, { view }, job) => jobDetails(job, view.wallMs()),
  cancelJob: async ({ query, operationId }, source, job) => {
    const mode = query["mode"] ?? "cancel";
    if (mode === "stop") {
      throw new Refusal(410, 'The termination mode "stop" was removed in Flink; cancel the job with mode=cancel.');
    }
    if (mode !== "cancel") throw Refusal.query("mode", mode);
    await start(source, job, operationId, { kind: "cancel" });
    return {};
  },
  jobStatus: (_request, _source, job) => ({ status: job.state }),
  jobPlan: (_request, _source, job) => jobPlan(job),
  jobConfig: (_request, _source, job) => jobConfig(job),
  jobExceptions: ({ query }, _source, job) => {
    const text = query["maxExceptions"];
    if (text !== undefined && !/^\d{1,9}$/u.test(text)) throw Refusal.query("maxExceptions", text);
    return jobExceptions(job, text === undefined ? Infinity : Number(text));
  },
  jobAccumulators: () => ({
    "job-accumulators": [],
    "user-task-accumulators": [],
    "serialized-user-task-accumulators": {},
  }),
  jobResult: (_request, _source, job) => executionResult(job),
  jobMetrics: ({ query }, { view }, job) => metricsMessage(jobMetricTexts(job, view.wallMs()), query),
  jobJobManagerConfig: (_request, _source, job) => configurationMessage(job),
  jobJobManagerEnvironment: (_, { own }) => environmentMessage(own),
  resourceRequirements: (_request, _source, job) => job.requirements,
  updateResourceRequirements: async ({ body, operationId }, source, job) => {
    const { view } = source;
    const request = rescaleRequest(body);
    if (isNew(view, operationId)) refuseRescale(request, view, job);
    const outcome = view.operation(await start(source, job, operationId, request))?.outcome;
    if (outcome?.type === "failed") throw failureFromJson(outcome.failure);
    return {};
  },

  checkpoints: (_request, _source, job) => checkpointing(job),
  checkpointConfig: (_request, _source, job) => checkpointConfig(job),
  checkpoint: ({ params }, _source, job) => {
    const id = Number(params.checkpointid);
    const details = checkpointDetails(job, id);
    if (details !== undefined) return details;
    throw Refusal.notFound(`Could not find checkpointing statistics for checkpoint ${id}.`);
  },
  checkpointSubtasks: ({ params }, _source, job) => {
    const id = Number(params.checkpointid);
    if (checkpointDetails(job, id) === undefined)
      throw Refusal.notFound(`Could not find checkpointing statistics for checkpoint ${id}.`);
    const message = checkpointSubtasks(job, id, params.vertexid);
    if (message !== undefined) return message;
    throw Refusal.notFound(`JobVertex ${params.vertexid} not found`);
  },
  triggerCheckpoint: async ({ body, operationId }, source, job) =>
    started(
      await start(source, job, idOf(operationId, body.triggerId), {
        kind: "checkpoint",
        checkpointType: body.checkpointType ?? "CONFIGURED",
      }),
    ),
  checkpointStatus: ({ params }, { view }) => checkpointStatus(findOperation(view, params.triggerid, "checkpoint")),
  triggerSavepoint: async ({ body, operationId }, source, job) =>
    started(await startSavepoint(source, job, idOf(operationId, body.triggerId), savepointRequest(body))),
  stopWithSavepoint: async ({ body, operationId }, source, job) =>
    started(await startSavepoint(source, job, idOf(operationId, body.triggerId), stopRequest(body))),
  savepointStatus: ({ params }, { view }) => savepointStatus(findOperation(view, params.triggerid, "savepoint")),
  disposeSavepoint: async ({ body, operationId }, source, job) =>
    started(await start(source, job, operationId, { kind: "dispose", savepointPath: body["savepoint-path"] })),
  disposalStatus: ({ params }, { view }) => disposalStatus(findOperation(view, params.triggerid, "dispose")),
  unpin: async ({ body, operationId }, source, job) =>
    started(
      await start(source, job, idOf(operationId, body.triggerId), { kind: "unpin", holder: body.holder ?? null }),
    ),
  unpinStatus: ({ params }, { view }) => disposalStatus(findOperation(view, params.triggerid, "unpin")),

  vertex: ({ params }, { view }, job) => vertexMessage(findVertex(job, params.vertexid), view.wallMs()),
  vertexAccumulators: ({ params }, _source, job) => ({
    id: findVertex(job, params.vertexid).planned.id,
    ...NO_ACCUMULATORS,
  }),
  vertexBackPressure: ({ params }, { view }, job) => backPressure(findVertex(job, params.vertexid), view.wallMs()),
  vertexMetrics: ({ params, query }, _source, job) => {
    const all = subtaskTexts(findVertex(job, params.vertexid)).flatMap((texts, i) =>
      [...texts].map(([name, value]) => [`${i}.${name}`, value] as const),
    );
    return metricsMessage(new Map(all), query);
  },
  vertexWatermarks: ({ params }, _source, job) => {
    findVertex(job, params.vertexid);
    return []; // there is no event time (yet): nothing has a watermark
  },
  vertexOperatorMetrics: ({ params }, _source, job) => {
    findVertex(job, params.vertexid);
    return []; // splits are planned, not enumerated while the job runs
  },
  vertexTaskManagers: ({ params }, { view }, job) =>
    vertexTaskManagers(findVertex(job, params.vertexid), view.wallMs()),
  subtaskTimes: ({ params }, { view }, job) => subtaskTimes(findVertex(job, params.vertexid), view.wallMs()),
  subtasksMetrics: ({ params, query }, _source, job) => {
    const texts = subtaskTexts(findVertex(job, params.vertexid));
    const chosen = indicesOf(query, "subtasks", texts.length);
    return aggregatedMetrics(
      texts.filter((_, i) => chosen.includes(i)),
      query,
    );
  },
  subtasksAccumulators: ({ params }, _source, job) => subtasksAccumulators(findVertex(job, params.vertexid)),
  subtask: ({ params }, { view }, job) =>
    subtaskMessage(findSubtask(findVertex(job, params.vertexid), params.subtaskindex), view.wallMs()),
  subtaskMetrics: ({ params, query }, _source, job) => {
    const vertex = findVertex(job, params.vertexid);
    const { figures } = findSubtask(vertex, params.subtaskindex);
    return metricsMessage(subtaskMetricTexts(vertex.planned, figures), query);
  },
  subtaskAttempt: ({ params }, { view }, job) => {
    const vertex = findVertex(job, params.vertexid);
    return subtaskMessage(findAttempt(vertex, params.subtaskindex, params.attempt), view.wallMs());
  },
  attemptAccumulators: ({ params }, _source, job) => {
    const vertex = findVertex(job, params.vertexid);
    const { subtaskIndex, attempt } = findAttempt(vertex, params.subtaskindex, params.attempt);
    return { subtask: subtaskIndex, attempt, id: vertex.planned.id, ...NO_ACCUMULATORS };
  },
};

/** Starts an operation, or finds that its id was used before; gives the id. Refuses new ones of a job that has ended. */
async function start(
  { view }: RestSource,
  job: JobView,
  askedId: string | undefined,
  request: OperationRequest,
): Promise<string> {
  const id = askedId ?? view.newOperationId();
  const isCancelAgain = request.kind === "cancel" && job.state === "CANCELED";
  if (isTerminal(job.state) && view.operation(id) === undefined && !isCancelAgain) {
    const what = request.kind === "cancel" ? "Job cancellation failed" : `The operation (${request.kind}) failed`;
    throw new Refusal(409, `${what} because the job has already reached another terminal state (${job.state}).`);
  }
  if (!isCancelAgain) await view.startOperation(id, request);
  return id;
}

/** An id that is known asks for nothing new: what it was asked with was right then. */
function isNew(view: JobManagerView, id: string | undefined): boolean {
  return id === undefined || view.operation(id) === undefined;
}

async function startSavepoint(
  source: RestSource,
  job: JobView,
  askedId: string | undefined,
  request: Extract<OperationRequest, { readonly kind: "savepoint" | "stop" }>,
): Promise<string> {
  if (isNew(source.view, askedId) && !isTerminal(job.state)) refuseSavepointTarget(request, job);
  return await start(source, job, askedId, request);
}

function started(id: string): { readonly "request-id": string } {
  return { "request-id": id };
}

/** Header and body may both name the operation, but not differently. */
function idOf(header: string | undefined, body: string | null | undefined): string | undefined {
  const inBody = body?.toLowerCase();
  if (header !== undefined && inBody !== undefined && header !== inBody)
    throw new Refusal(400, `The operation has two ids: ${header} in the header, ${inBody} in the body.`);
  return header ?? inBody;
}

function findTaskManager({ view }: RestSource, id: string): TaskManagerView {
  const found = view.taskManagers().find((candidate) => candidate.id === id);
  if (found === undefined) throw Refusal.notFound(`TaskManager ${id} is not registered.`);
  return found;
}

function taskManagerTexts({ metrics }: TaskManagerView): ReadonlyMap<string, string> {
  return new Map(Object.entries(metrics).map(([name, value]) => [name, String(value)]));
}

function subtaskTexts(vertex: Vertex): readonly ReadonlyMap<string, string>[] {
  return vertex.subtasks.map(({ figures }) => subtaskMetricTexts(vertex.planned, figures));
}

function logFile(own: ProcessView, name: string): string {
  const log = own.log();
  if (log.name !== name) throw Refusal.notFound(`There is no log ${name}; there is ${log.name}.`);
  return log.text;
}
