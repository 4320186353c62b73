// Which operation a StreamJob needs next, and what becomes of the present one when a newer generation comes.
//
// Invariants:
//   BE1. What is stopped stays stopped for the newest spec only: an operation that has begun to stop the job goes on, and what it
//        found out (the savepoint) is taken over by the operation of the newest generation, which passes its own gate.
//   BE2. Changes that are no part of the job (upgradeMode, stability ...) begin nothing.

import { isSameJob, problemsOfMemory, specHash } from "../objects/index.ts";
import type { JobStatus, OpKind, OpStep } from "../status/index.ts";
import { isGivenUp } from "./conditions.ts";
import type { Draft } from "./draft.ts";
import { goOnWithNewest, startOperation } from "./operation.ts";
import { refuse } from "./refuse.ts";

/** Takes a newer generation into account; the present operation is kept, changed, replaced or dropped. */
export function reviseOperation(draft: Draft): void {
  const { op, job } = draft;
  if (op === undefined || op.generation === job.generation) return;
  if (op.kind === "Delete") return draft.clearOp();
  switch (op.step) {
    case "Preflight":
      if (op.isStopped !== true) return draft.clearOp();
      return goOnWithNewest(draft, op);
    case "Stop":
      if (op.triggerId === undefined) draft.clearOp();
      return; // BE1: fence.ts hands it over
    case "Fence":
      return goOnWithNewest(draft, op);
    case "Deploy":
    case "Verify":
    default:
      if (isNothingNew(draft)) return draft.setOp({ generation: job.generation });
      return draft.clearOp();
  }
}

function isNothingNew(draft: Draft): boolean {
  const { spec } = draft.job;
  const { live, status } = draft;
  return (
    live !== undefined &&
    spec.state !== "Suspended" &&
    isDeployed(draft) &&
    spec.restartNonce === status.deployedSpec?.restartNonce
  );
}

/** Whether the newest spec is what is deployed, but for how it is looked after. */
function isDeployed(draft: Draft): boolean {
  const { job, status } = draft;
  if (status.deployed === undefined) return false;
  // A status without the spec is not ours: its hash is all there is.
  if (status.deployedSpec === undefined) return status.deployed.hash === specHash(job.spec);
  return isSameJob(job.spec, status.deployedSpec);
}

function find(status: JobStatus, type: string): boolean {
  return status.conditions?.some((one) => one.type === type && one.status === "True") === true;
}

/** Begins what the newest spec asks for, if anything. */
export function beginOperation(draft: Draft): void {
  const kind = wantedKind(draft);
  if (kind === undefined) return;
  const problems = [...draft.job.problems, ...problemsOfMemory(draft.job.spec)];
  if (draft.job.spec.state !== "Suspended" && problems.length > 0) {
    const isMemory = draft.job.problems.length === 0;
    return refuse(draft, { reason: isMemory ? "MemoryTooSmall" : "InvalidSpec", message: problems.join("; ") });
  }
  if (draft.stalled === undefined) draft.stalled = null;
  const step: Readonly<Record<OpKind, OpStep>> = {
    Deploy: "Preflight",
    Upgrade: "Preflight",
    Restart: "Fence",
    Suspend: "Stop",
    Delete: "Stop",
  };
  startOperation(draft, { kind, step: step[kind], from: undefined });
  draft.record(kind, why(draft, kind));
}

function wantedKind(draft: Draft): OpKind | undefined {
  const { job, live, status } = draft;
  if (isGivenUp(draft)) return undefined; // D6
  if (job.spec.state === "Suspended") {
    if (live !== undefined) return "Suspend";
    // What was given up is suspended by a newer generation: nothing of it runs.
    const isOpen = find(status, "Stalled") || status.deployed?.ended === "FAILED";
    if (isOpen) draft.stalled = null;
    if (status.deployed?.ended === "STALLED" || status.deployed?.ended === "FAILED")
      draft.setDeployed({ ended: "SUSPENDED" });
    return undefined;
  }
  const nonce = job.spec.restartNonce;
  if (live === undefined) {
    const ended = status.deployed?.ended;
    const isOver = ended === "FINISHED" || ended === "CANCELED";
    const isSame = isDeployed(draft) && status.deployedSpec?.restartNonce === nonce;
    return isOver && isSame ? undefined : "Deploy";
  }
  if (!isDeployed(draft)) return "Upgrade";
  if (status.deployedSpec?.restartNonce !== nonce) return "Restart";
  if (live.generation !== job.generation) {
    // BE2: what changed is no part of the job.
    draft.setDeployed({ generation: job.generation });
    draft.set({ deployedSpec: job.spec });
    draft.stalled = null;
  }
  return undefined;
}

function why(draft: Draft, kind: OpKind): string {
  const { status, job } = draft;
  switch (kind) {
    case "Deploy":
      if (status.deployed === undefined) return "the job has not run yet";
      return `what ran before has ended (${status.deployed.ended ?? "unknown"})`;
    case "Upgrade":
      return `generation ${job.generation} changes the job; upgradeMode is ${job.spec.upgradeMode}`;
    case "Restart":
      return `restartNonce changed to ${job.spec.restartNonce ?? "none"}`;
    case "Suspend":
      return "state is Suspended";
    case "Delete":
    default:
      return "the StreamJob is deleted";
  }
}
