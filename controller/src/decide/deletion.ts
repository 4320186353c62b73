// A StreamJob that is deleted: its job is cancelled, its pods end, then the finalizer goes. Nothing may hold that up for long.
//
// Invariants:
//   DL1. Without an answer the job is not waited for longer than 20 s; in a namespace that terminates, not at all.
//   DL2. The finalizer goes last, and it goes in any case: pods that are asked to go are waited for 10 s.
//   DL3. Data stays as checkpointing.cleanup says: the JobManager that is cancelled does that, never the controller.
//
// Not here: ConfigMaps, Secrets and the Service: they are the StreamJob's own and are collected with it.

import { cancelIdOf, specHash } from "../objects/index.ts";
import { endOf } from "./keep-running.ts";
import type { Draft } from "./draft.ts";
import { REQUEUE_BUSY_MS } from "./draft.ts";

const CANCEL_MS = 20_000;
const PATIENCE_MS = 10_000;

export function decideDeletion(draft: Draft): void {
  const { job, observed, status } = draft;
  if (!job.hasFinalizer) return;
  if (status.op?.kind !== "Delete") begin(draft);
  const op = draft.op;
  if (op === undefined) return;
  if (op.step === "Stop") {
    if (mayStillCancel(draft)) return;
    draft.setOp({ step: "Fence", stepAt: draft.now });
  }
  for (const pod of observed.pods) draft.deletePod(pod);
  const isPatient = !observed.isNamespaceTerminating && draft.since(draft.op?.stepAt) < PATIENCE_MS;
  const isWaitedFor = observed.pods.some(
    (pod) => !pod.isNodeLost && pod.phase !== "Succeeded" && pod.phase !== "Failed",
  );
  if (isPatient && isWaitedFor) return draft.wait("Deleting", "the job's pods are ending", REQUEUE_BUSY_MS);
  draft.act({ type: "removeFinalizer" });
  draft.wait("Deleting", "the job's pods have ended");
}

function begin(draft: Draft): void {
  const { job, status } = draft;
  const tries = status.op !== undefined && status.op.generation === job.generation ? status.op.tries + 1 : 1;
  draft.set({
    op: {
      id: draft.newOperationId(tries),
      kind: "Delete",
      step: "Stop",
      generation: job.generation,
      hash: specHash(job.spec),
      tries,
      mode: "Stateless",
      startedAt: draft.now,
      stepAt: draft.now,
    },
  });
  draft.record("Delete", "the StreamJob is deleted");
}

/** True while the cancellation of the job is waited for. */
function mayStillCancel(draft: Draft): boolean {
  const { live, observed, op, jobManager } = draft;
  if (live === undefined || op === undefined || observed.isNamespaceTerminating) return false;
  if (endOf(draft, live) !== undefined || draft.since(op.stepAt) >= CANCEL_MS) return false;
  const pod = observed.pods.find(
    (one) => one.attempt === live.attempt && one.component === "jobmanager" && !one.isDeleting,
  );
  if (pod === undefined) return false; // nobody will answer
  if (jobManager !== undefined && pod.podIp !== undefined) {
    const operationId = cancelIdOf(op.id);
    draft.act({ type: "cancelJob", podIp: pod.podIp, attempt: live.attempt, jobId: jobManager.jobId, operationId });
  }
  draft.wait("Deleting", "the job is being cancelled", REQUEUE_BUSY_MS);
  return true;
}
