// Savepoints that were asked for and are not triggered yet, and what is said of those that fail. Pure.
//
// Invariants: C8 of coordinator.ts, and
//   SQ1. Every request ends in one answer: it is triggered, or it fails with a reason.
//
// Not here: triggering (coordinator.ts), who asked (coordinator-shell.ts).

import { Failure } from "@sluice/kit";
import type { CoordinatorEffect, CoordinatorState, PendingCheckpoint, Step } from "./coordinator-state.ts";

export function savepointOverdue(state: CoordinatorState, token: number): Step {
  const request = state.savepointRequests.find((r) => r.token === token);
  if (request === undefined) return [state, []];
  const savepointRequests = state.savepointRequests.filter((r) => r !== request);
  const failure = savepointFailure(neverBegan(state.config.timeoutMs), undefined);
  return [{ ...state, savepointRequests }, [{ type: "savepointFailed", request, id: null, failure }]];
}

/** Why a checkpoint or a savepoint that was asked for waited in vain. */
export function neverBegan(timeoutMs: number): string {
  return `it could not begin within ${timeoutMs} ms: not all tasks run, or others are under way`;
}

export function savepointFailed(
  pending: PendingCheckpoint,
  reason: string,
  cause?: Failure,
): readonly CoordinatorEffect[] {
  const { id, savepoint: request } = pending;
  if (request === null) return [];
  return [{ type: "savepointFailed", request, id, failure: savepointFailure(reason, cause) }];
}

export function savepointFailure(reason: string, cause: Failure | undefined): Failure {
  return new Failure(cause?.code ?? "CHECKPOINT_DECLINED", {
    retry: cause?.retry ?? "backoff",
    message: `no savepoint was taken: ${reason}`,
    remedy: cause === undefined || cause.remedy === "" ? "ask again once the job runs" : cause.remedy,
    cause,
  });
}
