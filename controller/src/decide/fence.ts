// Fence: the old version's pods end before those of the new one start. Who cannot be reached is not waited for: the next claim of
// the commit log fences it.
//
// Invariants:
//   FE1. Pods are deleted by uid: a newer pod of the same name is never met.
//   FE2. What is deployed then is written down with everStateful and mayCreate, before any pod of it is made (D3).
//
// Not here: making the pods (keep-running.ts).

import { planted } from "@sluice/kit";

import { attemptName, slotsOf, specHash, submissionOf, taskManagersOf } from "../objects/index.ts";
import type { PodView } from "../observe/index.ts";
import type { Operation } from "../status/index.ts";
import type { Draft } from "./draft.ts";
import { REQUEUE_BUSY_MS } from "./draft.ts";
import { goOnWithNewest } from "./operation.ts";

/** A pod that was asked to go this long ago is not waited for. */
const PATIENCE_MS = 10_000;

export function fenceStep(draft: Draft): void {
  const { op, job } = draft;
  if (op === undefined) return;
  if (op.generation !== job.generation) return goOnWithNewest(draft, op);
  const old = draft.observed.pods.filter((pod) => pod.component !== "preflight");
  for (const pod of old) draft.deletePod(pod);
  if (old.some((pod) => mustEnd(draft, pod)) && !planted("operator-skips-fence")) {
    draft.wait("Fencing", "the pods of the version before are ending", REQUEUE_BUSY_MS);
    return;
  }
  removeObjects(draft);
  if (op.kind === "Suspend") {
    draft.setDeployed({ ended: "SUSPENDED" });
    draft.record(
      "Suspended",
      op.savepoint === undefined ? "the job is suspended" : `the job is suspended with savepoint ${op.savepoint}`,
    );
    return draft.clearOp();
  }
  toDeploy(draft, op);
}

/** JobManagers that may still write, and pods that were not asked to go yet. */
function mustEnd(draft: Draft, pod: PodView): boolean {
  if (pod.phase === "Succeeded" || pod.phase === "Failed") return false;
  if (pod.deletingSinceMs === undefined) return true;
  if (pod.component === "taskmanager" || pod.isNodeLost) return false;
  return draft.nowMs - pod.deletingSinceMs < PATIENCE_MS;
}

/** ConfigMap and Secret of what ran before; the Service is taken over by the next attempt. */
function removeObjects(draft: Draft): void {
  const { deployed } = draft.status;
  if (deployed === undefined) return;
  const name = attemptName(draft.job.name, deployed.attempt);
  draft.act({ type: "deleteConfigMap", name });
  draft.act({ type: "deleteSecret", name });
}

function toDeploy(draft: Draft, op: Operation): void {
  const { job, status, settings } = draft;
  const spec = op.returns === true && status.deployedSpec !== undefined ? status.deployedSpec : job.spec;
  const attempt = draft.attempt(op);
  const isStateful = spec.checkpointing !== undefined;
  const isFirst = status.everStateful !== true;
  const mayCreate = planted("operator-may-always-create") || isFirst || op.foundNoLog === true;
  const initial = isFirst && isStateful ? spec.initialSnapshot : undefined;
  const slots = op.slots ?? slotsOf(spec);
  const taskManagers = taskManagersOf(spec, slots);
  draft.set({
    ...(isStateful && !planted("operator-stateful-late") && { everStateful: true }),
    deployed: {
      generation: op.generation,
      hash: specHash(spec),
      attempt,
      submission: submissionOf(op.id),
      image: spec.image ?? settings.defaultImage,
      parallelism: spec.parallelism,
      restore: {
        mayCreate,
        newLineage: (!isFirst || op.isStopped === true) && spec.upgradeMode === "Stateless" && op.returns !== true,
        onForeignLog: FOREIGN[spec.onExistingData] ?? "refuse",
        pinRestored: !isFirst,
        order: [op.generation, op.tries],
        ...(op.savepoint !== undefined && op.returns !== true && { expectHead: { path: op.savepoint } }),
        ...(initial !== undefined && { from: initial.path }),
      },
      ...(op.savepoint !== undefined && { savepoint: op.savepoint }),
      startedAt: draft.now,
      pods: {
        next: taskManagers + 1,
        jobManager: { index: 0 },
        taskManagers: Array.from({ length: taskManagers }, (_, index) => ({ index: index + 1 })),
      },
    },
    deployedSpec: spec,
    op: { ...op, step: "Deploy", stepAt: draft.now, podUids: [] },
  });
  draft.record("Start", startWords(op, spec.upgradeMode));
}

const FOREIGN: Readonly<Record<string, "refuse" | "resume" | "newLineage">> = {
  Refuse: "refuse",
  Resume: "resume",
  NewLineage: "newLineage",
};

function startWords(op: Operation, mode: string): string {
  if (op.returns === true) return "pods of the version before are started";
  if (op.savepoint !== undefined) return `pods of the new version are started from savepoint ${op.savepoint}`;
  return mode === "Stateless"
    ? "pods are started without state"
    : "pods are started from the newest state, if there is any";
}
