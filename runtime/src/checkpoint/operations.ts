// Operations asked for by somebody outside (savepoint, stop, cancel ...), as the commit log remembers them. Pure.
//
// Whoever asks names the operation with an id of its own: asking again under that id starts nothing and finds the outcome, also when
// another JobManager answers. So it is recorded before it begins, and its outcome with or after what it did.
//
// Invariants:
//   OP1. An id names one operation for ever: the same id for another request is refused.
//   OP2. An outcome never changes.
//   OP3. The list is bounded: the oldest settled operations go first, one that runs never does.
//   OP4. An operation does not outlive the run it was asked of: the record that ends the run, or begins another one, settles it.
//
// Not here: doing them (jobmanager/operations.ts), their messages (jobmanager/rest).

import type { FailureJson } from "@sluice/kit";
import { Failure, failureToJson, planted } from "@sluice/kit";

/** What can be asked for, in Flink's words. */
export type OperationRequest =
  | { readonly kind: "cancel" }
  | { readonly kind: "checkpoint"; readonly checkpointType: "CONFIGURED" | "FULL" | "INCREMENTAL" }
  | {
      readonly kind: "savepoint";
      /** null: the configured directory. */
      readonly targetDirectory: string | null;
      readonly formatType: SavepointFormat;
      readonly cancelsJob: boolean;
    }
  | {
      readonly kind: "stop";
      readonly targetDirectory: string | null;
      readonly formatType: SavepointFormat;
      readonly drain: boolean;
    }
  | { readonly kind: "dispose"; readonly savepointPath: string }
  /** Takes pins of starts back (pins.ts); `holder` null: all of them. */
  | { readonly kind: "unpin"; readonly holder: string | null }
  | { readonly kind: "rescale"; readonly requirements: ResourceRequirements };

/** How many subtasks each vertex may have, by vertex id (Flink: JobResourceRequirements). */
export type ResourceRequirements = Readonly<
  Record<string, { readonly parallelism: { readonly lowerBound: number; readonly upperBound: number } }>
>;

export type OperationKind = OperationRequest["kind"];
export type SavepointFormat = "CANONICAL" | "NATIVE";

/** What came of it. `location`: URI of a savepoint; `checkpointId`: of a checkpoint. */
export type OperationOutcome =
  | { readonly type: "done"; readonly location?: string; readonly checkpointId?: number }
  | { readonly type: "failed"; readonly failure: FailureJson };

/** As it stands in a commit record. */
export interface RecordedOperation {
  /** 32 hex digits (Flink: TriggerId). */
  readonly id: string;
  readonly request: OperationRequest;
  /** null: it runs. */
  readonly outcome: OperationOutcome | null;
}

export type RecordedOperations = readonly RecordedOperation[];

/** Settled ones beyond this are forgotten, oldest first. */
export const OPERATIONS_SETTLED_MAX = 64;
/** More at the same time are refused. */
export const OPERATIONS_RUNNING_MAX = 16;

export function findOperation(ops: RecordedOperations, id: string): RecordedOperation | undefined {
  return ops.find((op) => op.id === id);
}

/** Whether both ask for the same. */
export function isSameRequest(a: OperationRequest, b: OperationRequest): boolean {
  const text = (request: OperationRequest): string =>
    JSON.stringify(Object.entries(request).sort(([one], [other]) => (one < other ? -1 : 1)));
  return text(a) === text(b);
}

/** The list with a new operation that runs; the list itself when its id is known. Throws a Failure where OP1 or a bound forbids it. */
export function withStarted(ops: RecordedOperations, id: string, request: OperationRequest): RecordedOperations {
  const known = findOperation(ops, id);
  if (known !== undefined) {
    if (isSameRequest(known.request, request)) return ops;
    throw new Failure("OPERATION_CONFLICT", {
      retry: "never",
      message: `operation ${id} is a ${known.request.kind} that was asked for with other words before`,
      remedy: "give every operation an id of its own",
    });
  }
  if (ops.filter((op) => op.outcome === null).length >= OPERATIONS_RUNNING_MAX) {
    throw new Failure("OPERATION_CONFLICT", {
      retry: "backoff",
      message: `${OPERATIONS_RUNNING_MAX} operations of this job run already`,
      remedy: "wait until one of them has ended",
    });
  }
  return [...ops, { id, request, outcome: null }];
}

/** The list with the outcome of `id`; unchanged when the operation is unknown or settled (OP2). */
export function withOutcome(ops: RecordedOperations, id: string, outcome: OperationOutcome): RecordedOperations {
  return bounded(ops.map((op) => (op.id === id && op.outcome === null ? { ...op, outcome } : op)));
}

/** OP4: every operation that runs is settled. `outcomeOf` undefined: it failed, for `why`. */
export function allSettled(
  ops: RecordedOperations,
  why: string,
  outcomeOf: (request: OperationRequest) => OperationOutcome | undefined = () => undefined,
): RecordedOperations {
  const failure = failureToJson(
    new Failure("CANCELED", { retry: "never", message: why, remedy: "ask again, under another id" }),
  );
  return bounded(
    ops.map((op) =>
      op.outcome === null || planted("end-settles-again")
        ? { ...op, outcome: outcomeOf(op.request) ?? ({ type: "failed", failure: { ...failure, stack: "" } } as const) }
        : op,
    ),
  );
}

/** OP4, for the record that says how the job ended. */
export function settledAtEnd(
  ops: RecordedOperations,
  jobState: "stopped" | "finished" | "failed" | "cancelled",
): RecordedOperations {
  return allSettled(ops, `the job ended (${jobState}) before`, ({ kind }) =>
    kind === "cancel" && jobState === "cancelled" ? { type: "done" } : undefined,
  );
}

/** OP3. */
function bounded(ops: RecordedOperations): RecordedOperations {
  let excess = ops.filter((op) => op.outcome !== null).length - OPERATIONS_SETTLED_MAX;
  if (excess <= 0) return ops;
  return ops.filter((op) => op.outcome === null || (excess -= 1) < 0);
}
