// States of the job and of its tasks (Flink: JobStatus, ExecutionState) and the transitions between them.
//
// Invariants (tests cite them):
//   JS1. Only the transitions listed here happen; anything else is a bug and stops the process.
//   JS2. A globally terminal state is never left.
//
// Not here: what causes a transition (scheduler.ts).

import { assert } from "@sluice/kit";
import type { ExecutionState, JobStatus } from "./rest/source.ts";

/** SUSPENDED: this JobManager goes, the job does not end; the next one continues it. */
export const NEXT_JOB_STATES = {
  INITIALIZING: ["CREATED", "FAILED", "SUSPENDED", "CANCELED"],
  CREATED: ["RUNNING", "FAILING", "CANCELLING", "SUSPENDED"],
  RUNNING: ["FINISHED", "RESTARTING", "FAILING", "CANCELLING", "SUSPENDED"],
  RESTARTING: ["RUNNING", "FAILING", "CANCELLING", "SUSPENDED"],
  FAILING: ["FAILED", "SUSPENDED"],
  CANCELLING: ["CANCELED", "FAILING", "SUSPENDED"],
  RECONCILING: [],
  FINISHED: [],
  FAILED: [],
  CANCELED: [],
  SUSPENDED: [],
} as const satisfies Record<JobStatus, readonly JobStatus[]>;

/** RECONCILING is a name of Flink's that REST knows; nothing here ever enters it. */
export const NEXT_EXECUTION_STATES = {
  CREATED: ["SCHEDULED", "CANCELED"],
  SCHEDULED: ["DEPLOYING", "CANCELED", "FAILED"],
  DEPLOYING: ["INITIALIZING", "RUNNING", "CANCELING", "CANCELED", "FAILED"],
  INITIALIZING: ["RUNNING", "CANCELING", "CANCELED", "FAILED"],
  RUNNING: ["FINISHED", "CANCELING", "CANCELED", "FAILED"],
  CANCELING: ["CANCELED", "FAILED", "FINISHED"],
  RECONCILING: [],
  FINISHED: [],
  CANCELED: [],
  FAILED: [],
} as const satisfies Record<ExecutionState, readonly ExecutionState[]>;

/** Does not compile for a pair of known states that the table does not list; asserts the others (JS1). */
export function jobTransition<F extends JobStatus>(from: F, to: (typeof NEXT_JOB_STATES)[F][number]): JobStatus {
  assert((NEXT_JOB_STATES[from] as readonly JobStatus[]).includes(to), `JS1: a job goes from ${from} to ${to}`);
  return to;
}

/** The same for tasks. */
export function executionTransition<F extends ExecutionState>(
  from: F,
  to: (typeof NEXT_EXECUTION_STATES)[F][number],
): ExecutionState {
  assert(
    (NEXT_EXECUTION_STATES[from] as readonly ExecutionState[]).includes(to),
    `JS1: a task goes from ${from} to ${to}`,
  );
  return to;
}

/** Whether the table lists the transition. */
export function mayBecome(from: ExecutionState, to: ExecutionState): boolean {
  return (NEXT_EXECUTION_STATES[from] as readonly ExecutionState[]).includes(to);
}

export function isExecutionTerminal(state: ExecutionState): boolean {
  return state === "FINISHED" || state === "CANCELED" || state === "FAILED";
}
