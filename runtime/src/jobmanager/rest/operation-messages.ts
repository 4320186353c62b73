// Operations as REST messages, and what requests for them ask for. Pure.
//
// Not here: doing them (../operations.ts).

import type {
  CheckpointStatusMessage,
  DisposalStatusMessage,
  FailureCause,
  ResourceRequirementsMessage,
  SavepointStatusMessage,
  SavepointTriggerRequest,
  StopRequest,
} from "@sluice/api";
import type { FailureJson } from "@sluice/kit";
import type { OperationKind, OperationRequest, RecordedOperation } from "../../checkpoint/index.ts";
import { CheckpointingOptions, configurationOf } from "../../model/index.ts";
import { savepointLocation } from "../savepoint-location.ts";
import { serializedThrowable } from "./java-throwable.ts";
import { Refusal } from "./refusal.ts";
import { decideRescale } from "../rescale.ts";
import type { JobManagerView, JobView } from "./source.ts";

export function savepointRequest(body: SavepointTriggerRequest): Extract<OperationRequest, { kind: "savepoint" }> {
  return {
    kind: "savepoint",
    targetDirectory: body["target-directory"] ?? null,
    formatType: body.formatType ?? "CANONICAL",
    cancelsJob: body["cancel-job"] ?? false,
  };
}

export function stopRequest(body: StopRequest): Extract<OperationRequest, { kind: "stop" }> {
  return {
    kind: "stop",
    targetDirectory: body.targetDirectory ?? null,
    formatType: body.formatType ?? "CANONICAL",
    drain: body.drain ?? false,
  };
}

/** Flink: 400 for a savepoint that has no place, instead of an operation that fails. Throws CONFIG_INVALID. */
export function refuseSavepointTarget(
  { targetDirectory }: { readonly targetDirectory: string | null },
  { jid, configuration }: Pick<JobView, "jid" | "configuration">,
): void {
  const configured = configurationOf(configuration).get(CheckpointingOptions.SAVEPOINT_DIRECTORY);
  savepointLocation(targetDirectory ?? configured, { jobId: jid, random: "" });
}

export function rescaleRequest(body: ResourceRequirementsMessage): Extract<OperationRequest, { kind: "rescale" }> {
  // One order of words: the same request again is the same operation.
  const requirements = Object.entries(body)
    .map(([id, { parallelism }]) => {
      const { lowerBound, upperBound } = parallelism;
      return [id.toLowerCase(), { parallelism: { lowerBound, upperBound } }] as const;
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return { kind: "rescale", requirements: Object.fromEntries(requirements) };
}

/** Flink: 400 for what does not fit the job. 409 for what is not possible now. */
export function refuseRescale(
  { requirements }: Pick<ReturnType<typeof rescaleRequest>, "requirements">,
  view: JobManagerView,
  job: JobView,
): void {
  if (job.state === "INITIALIZING") throw logUnread(); // nor is any TaskManager known
  const decision = decideRescale({
    plan: job.plan,
    requirements,
    slotCount: view.taskManagers().reduce((sum, { slots }) => sum + slots, 0),
    takesCheckpoints: job.checkpointConfig.intervalMs !== null,
  });
  if (decision.type === "ok") return;
  const { because, message, remedy } = decision;
  throw new Refusal(because === "invalid" ? 400 : 409, `${message} What to do: ${remedy}.`);
}

const NOUNS: Readonly<Record<"savepoint" | "checkpoint" | "dispose" | "unpin", string>> = {
  savepoint: "savepoint",
  checkpoint: "checkpoint",
  dispose: "savepoint disposal",
  unpin: "unpin",
};

const KINDS: Readonly<Record<keyof typeof NOUNS, readonly OperationKind[]>> = {
  savepoint: ["savepoint", "stop"],
  checkpoint: ["checkpoint"],
  dispose: ["dispose"],
  unpin: ["unpin"],
};

/** Refuses an id that nobody asked with; before the log is read nobody knows, and clients ask again (503). */
export function findOperation(view: JobManagerView, id: string, what: keyof typeof NOUNS): RecordedOperation {
  const operation = view.operation(id.toLowerCase());
  if (operation !== undefined && KINDS[what].includes(operation.request.kind)) return operation;
  if (view.job().state === "INITIALIZING") throw logUnread();
  throw Refusal.notFound(`There is no ${NOUNS[what]} operation with triggerId=${id} for job ${view.job().jid}.`);
}

function logUnread(): Refusal {
  return new Refusal(503, "The JobManager has not read the job's log yet. Ask again.");
}

const IN_PROGRESS = { status: { id: "IN_PROGRESS" }, operation: null } as const;
const COMPLETED = { id: "COMPLETED" } as const;

export function savepointStatus({ outcome }: RecordedOperation): SavepointStatusMessage {
  if (outcome === null) return IN_PROGRESS;
  if (outcome.type === "failed")
    return { status: COMPLETED, operation: { "failure-cause": failureCause(outcome.failure) } };
  return { status: COMPLETED, operation: outcome.location === undefined ? {} : { location: outcome.location } };
}

export function checkpointStatus({ outcome }: RecordedOperation): CheckpointStatusMessage {
  if (outcome === null) return IN_PROGRESS;
  if (outcome.type === "failed")
    return { status: COMPLETED, operation: { "failure-cause": failureCause(outcome.failure) } };
  const { checkpointId } = outcome;
  return { status: COMPLETED, operation: checkpointId === undefined ? {} : { checkpointId } };
}

export function disposalStatus({ outcome }: RecordedOperation): DisposalStatusMessage {
  if (outcome === null) return IN_PROGRESS;
  return {
    status: COMPLETED,
    operation: outcome.type === "failed" ? { "failure-cause": failureCause(outcome.failure) } : {},
  };
}

export function failureCause(failure: Pick<FailureJson, "code" | "message" | "remedy" | "stack">): FailureCause {
  const { code, message, remedy, stack } = failure;
  const words = remedy === "" ? message : `${message}. ${remedy}`;
  const stackTrace = `${code}: ${words}${stack === "" ? "" : `\n${stack}`}`;
  return {
    class: code,
    "stack-trace": stackTrace,
    "serialized-throwable": serializedThrowable({ className: code, message: words, stackTrace }),
  };
}
