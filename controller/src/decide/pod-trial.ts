// Whether the API server would take the pods of a new version, asked before the old version is stopped: a bad podTemplate, a policy of
// the namespace or a quota is else met by a job that does not run any more.
//
// Invariants:
//   TR1. What only a change of the spec or of the namespace can change refuses the version at once; what may pass by itself (a quota
//        that others use, rights that are still to come) is waited for until the operation's deadline.
//   TR2. What the pods of the running version use is not held against the new one: they end before its pods are made.
//
// Not here: asking (apply), what else preflight looks at (preflight.ts).

import { quantityBytes, runningPod } from "../objects/index.ts";
import type { RefusedAction } from "../observe/index.ts";
import type { Operation } from "../status/index.ts";
import type { Draft, Finding } from "./draft.ts";
import { REQUEUE_BUSY_MS } from "./draft.ts";

/** Between two questions while something may pass by itself. */
const ASK_AGAIN_MS = 5_000;

type Refused = Omit<RefusedAction, "opId">;

/** "taken"; a finding: refused; "waiting": asked, or asked again in a moment. */
export function tryPods(draft: Draft, op: Operation): "taken" | "waiting" | Finding {
  const { trial } = draft.observed;
  if (trial?.opId === op.id) {
    const { refused } = trial;
    if (refused === undefined || isUntestable(refused) || isOwnQuota(draft, refused)) return "taken";
    if (isFinalRefusal(refused) || isOverdue(draft, op)) return podRefused(refused);
    ask(draft, op);
    draft.wait("PodRefused", `${podRefused(refused).message} Asked again in a moment.`, ASK_AGAIN_MS);
    return "waiting";
  }
  if (isOverdue(draft, op))
    return {
      reason: "PreflightTimeout",
      message:
        "the API server did not say within 5 minutes whether it takes the pods of this version: see the controller's log (a webhook that does not answer?). Change spec to try again.",
    };
  ask(draft, op);
  draft.wait("Preflight", "asks the API server whether it takes the pods of this version", REQUEUE_BUSY_MS);
  return "waiting";
}

function ask(draft: Draft, op: Operation): void {
  const { job, settings } = draft;
  const of = { job, settings, deployed: { attempt: draft.attempt(op) } };
  const objects = (["jobmanager", "taskmanager"] as const).map((component, index) =>
    runningPod(of, { component, index, configMap: draft.attempt(op) }),
  );
  draft.act({ type: "tryPods", opId: op.id, objects });
}

function isOverdue(draft: Draft, op: Operation): boolean {
  return op.deadline !== undefined && draft.since(op.deadline) > 0;
}

/** TR1, of any object: the same request is refused again until somebody changes it, or the namespace's policy. */
export function isFinalRefusal(refused: Refused): boolean {
  if (refused.status !== 403) return refused.status === 400 || refused.status === 422;
  return isNeverInQuota(refused.message) || !/exceeded quota|cannot create resource/u.test(refused.message);
}

/** A webhook that cannot be asked without effects (dry runs fail then, whatever the pod). */
function isUntestable(refused: Refused): boolean {
  return /does not support dry run/iu.test(refused.message);
}

/** TR2. A quota that the pod would exceed by itself is another matter. */
function isOwnQuota(draft: Draft, refused: Refused): boolean {
  if (!/exceeded quota/u.test(refused.message) || isNeverInQuota(refused.message)) return false;
  return draft.observed.pods.some((pod) => pod.component !== "preflight" && pod.ended === undefined);
}

/** "exceeded quota: NAME, requested: limits.memory=2Gi, used: limits.memory=0, limited: limits.memory=1Gi" */
function isNeverInQuota(message: string): boolean {
  const part = /requested: (.*?), used: .*?, limited: (.*)$/u.exec(message);
  if (part === null) return false;
  const [requested, limited] = [part[1], part[2]].map(amounts);
  return [...(requested ?? [])].some(([name, amount]) => amount > (limited?.get(name) ?? Number.POSITIVE_INFINITY));
}

function amounts(text = ""): ReadonlyMap<string, number> {
  return new Map(
    text.split(",").flatMap((one) => {
      const [name = "", value = ""] = one.trim().split("=");
      const amount = value.endsWith("m") ? Number(value.slice(0, -1)) / 1_000 : quantityBytes(value);
      return amount === undefined || Number.isNaN(amount) ? [] : [[name, amount] as const];
    }),
  );
}

export function podRefused({ what, message }: Refused): Finding {
  return {
    reason: "PodRefused",
    message: `${what} is refused by the API server: ${message}. Correct podTemplate or resources in spec, or the namespace's policy (quota, limits, pod security); then change spec to try again (restartNonce is enough).`,
  };
}
