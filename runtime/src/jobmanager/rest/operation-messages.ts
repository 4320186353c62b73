// Operations as REST messages, and what requests for them ask for. Pure.
//
// Not here: doing them (../operations.ts).

import type {
  CheckpointStatusMessage,
  DisposalStatusMessage,
  FailureCause,
  SavepointStatusMessage,
  SavepointTriggerRequest,
  StopRequest,
} from "@sluice/api";
import type { FailureJson } from "@sluice/kit";
import type { OperationKind, OperationRequest, RecordedOperation } from "../../checkpoint/index.ts";
import { serializedThrowable } from "./java-throwable.ts";
import { Refusal } from "./refusal.ts";
import type { JobManagerView } from "./source.ts";

export function savepointRequest(body: SavepointTriggerRequest): OperationRequest {
  return {
    kind: "savepoint",
    targetDirectory: body["target-directory"] ?? null,
    formatType: body.formatType ?? "CANONICAL",
    cancelsJob: body["cancel-job"] ?? false,
  };
}

export function stopRequest(body: StopRequest): OperationRequest {
  return {
    kind: "stop",
    targetDirectory: body.targetDirectory ?? null,
    formatType: body.formatType ?? "CANONICAL",
    drain: body.drain ?? false,
  };
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
  if (view.job().state === "INITIALIZING")
    throw new Refusal(503, "The JobManager has not read the job's log yet. Ask again.");
  throw Refusal.notFound(`There is no ${NOUNS[what]} operation with triggerId=${id} for job ${view.job().jid}.`);
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
