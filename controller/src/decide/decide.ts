// The decision about one StreamJob: what its status says next, and what is to be done once that is stored.
//
// Invariants (tests cite them by name):
//   D1. Pure and total: equal inputs give equal decisions; any status and any observation give one.
//   D2. Status first: every action is told by the status of the same decision or an earlier one.
//   D3. Fail closed: a commit log may be begun only by the operation that found `everStateful` false, and that is written before.
//   D4. A running job is stopped only for a spec whose preflight pod has reported that it can run.
//   D5. One attempt at a time: pods of a new attempt come after those of the old were asked to go.
//   D6. A generation that was refused or has failed is not tried again; the next one is.
//
// Not here: the steps (preflight.ts, stop.ts, fence.ts, deploy.ts), running jobs (keep-running.ts), the end (deletion.ts).

import { beginOperation, reviseOperation } from "./begin.ts";
import { concludeConditions } from "./conditions.ts";
import { decideDeletion } from "./deletion.ts";
import { deployStep, settle, verifyStep } from "./deploy.ts";
import { Draft } from "./draft.ts";
import { fenceStep } from "./fence.ts";
import { foldObserved } from "./fold.ts";
import { keepRunning, sweep } from "./keep-running.ts";
import { preflightStep } from "./preflight.ts";
import { stopStep } from "./stop.ts";
import type { DecideInput, Decision } from "./types.ts";

/** More steps than an operation has; one decision may pass several when nothing needs to be waited for. */
const STEPS_MAX = 12;

/** Decides (D1). `requeueAfterMs` says when to look again if nothing is heard of before. */
export function decide(input: DecideInput): Decision {
  const draft = new Draft(input);
  if (draft.job.isDeleting) decideDeletion(draft);
  else decideLife(draft);
  concludeConditions(draft);
  return {
    status: draft.status,
    actions: draft.actions,
    events: draft.events,
    requeueAfterMs: draft.requeueAfterMs,
  };
}

function decideLife(draft: Draft): void {
  if (!draft.job.hasFinalizer) draft.act({ type: "addFinalizer" });
  if (draft.status.observedGeneration !== draft.job.generation) draft.set({ observedGeneration: draft.job.generation });
  foldObserved(draft);
  for (let passed = 0; passed < STEPS_MAX; passed += 1) {
    reviseOperation(draft);
    if (draft.op === undefined) beginOperation(draft);
    const before = draft.op;
    if (before === undefined) break;
    advance(draft);
    if (draft.op !== undefined && draft.op.step === before.step && draft.op.id === before.id) break;
  }
  const { op } = draft;
  // What is stopped is not kept running: it waits for the newest spec's gate, or for its end.
  const isLeftAlone = op?.step === "Fence" || (op?.step === "Preflight" && op.isStopped === true);
  if (!isLeftAlone) keepRunning(draft);
  settle(draft);
  sweep(draft);
}

/** One step of the operation: it stays where it is when something has to be waited for. */
function advance(draft: Draft): void {
  switch (draft.op?.step) {
    case "Preflight":
      return preflightStep(draft);
    case "Stop":
      return stopStep(draft);
    case "Fence":
      return fenceStep(draft);
    case "Deploy":
      return deployStep(draft);
    case "Verify":
      return verifyStep(draft);
    default:
      // An operation of a newer controller, or a deletion that was taken back (which Kubernetes does not do): begin anew.
      return draft.clearOp();
  }
}
