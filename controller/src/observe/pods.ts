// Pods as the API server shows them, read into what decide needs.
//
// Invariants:
//   PV1. A pod counts only when the StreamJob's uid owns it and our labels say what it is.
//   PV2. What a pod wrote itself (its termination message) is checked before it gets in.
//
// Not here: reading the cluster (read.ts).

import { CONTAINER_NAME, readPodReport } from "@sluice/api";
import type { PodReport } from "@sluice/api";

import { controllerOf } from "../kube/index.ts";
import type { ContainerStateTerminated, Node, Pod, Stored } from "../kube/index.ts";
import { ATTEMPT_LABEL, COMPONENT_LABEL } from "../objects/index.ts";
import type { Ended, PodReportView, PodView } from "./observed.ts";

/** The pods of one StreamJob (PV1). `lostNodes`: names of nodes that are not ready. */
export function podViews(
  pods: readonly Stored<Pod>[],
  of: { readonly jobUid: string; readonly lostNodes: ReadonlySet<string> },
): readonly PodView[] {
  return pods.flatMap((pod) => {
    const component = pod.metadata.labels?.[COMPONENT_LABEL];
    const attempt = pod.metadata.labels?.[ATTEMPT_LABEL];
    if (controllerOf(pod)?.uid !== of.jobUid || attempt === undefined) return [];
    if (component !== "jobmanager" && component !== "taskmanager" && component !== "preflight") return [];
    return [podView(pod, { component, attempt, lostNodes: of.lostNodes })];
  });
}

function podView(
  pod: Stored<Pod>,
  of: {
    readonly component: PodView["component"];
    readonly attempt: string;
    readonly lostNodes: ReadonlySet<string>;
  },
): PodView {
  const { metadata, status, spec } = pod;
  const container = status?.containerStatuses?.find((one) => one.name === CONTAINER_NAME);
  const conditions = status?.conditions ?? [];
  const scheduled = conditions.find((one) => one.type === "PodScheduled");
  const waiting = container?.state?.waiting;
  return {
    name: metadata.name,
    uid: metadata.uid,
    component: of.component,
    attempt: of.attempt,
    phase: status?.phase ?? "Pending",
    isReady: conditions.some((one) => one.type === "Ready" && one.status === "True"),
    isDeleting: metadata.deletionTimestamp !== undefined,
    deletingSinceMs: deletingSince(metadata),
    createdAtMs: millis(metadata.creationTimestamp),
    podIp: status?.podIP,
    node: spec.nodeName,
    isNodeLost: spec.nodeName !== undefined && of.lostNodes.has(spec.nodeName),
    unschedulable:
      scheduled?.status === "False" && scheduled.reason === "Unschedulable" ? (scheduled.message ?? "") : undefined,
    waiting: waiting === undefined ? undefined : { reason: waiting.reason ?? "", message: waiting.message ?? "" },
    restartCount: container?.restartCount ?? 0,
    ended: ended(container?.state?.terminated),
    lastEnded: ended(container?.lastState?.terminated),
    reason: status?.reason ?? "",
    message: status?.message ?? "",
  };
}

/** The timestamp says when the pod is killed at the latest: its grace later than when it was asked to go. */
function deletingSince(metadata: Stored<Pod>["metadata"]): number | undefined {
  const at = millis(metadata.deletionTimestamp);
  return at === undefined ? undefined : at - (metadata.deletionGracePeriodSeconds ?? 0) * 1_000;
}

function ended(terminated: ContainerStateTerminated | undefined): Ended | undefined {
  if (terminated === undefined) return undefined;
  const read = readPodReport(terminated.message);
  return {
    exitCode: terminated.exitCode,
    reason: terminated.reason ?? "",
    atMs: millis(terminated.finishedAt),
    report: read.type === "report" ? reportView(read.report) : undefined,
  };
}

function reportView(report: PodReport): PodReportView {
  switch (report.kind) {
    case "preflight":
      return { event: "preflight", ok: true, slots: report.plan.slotsNeeded, log: report.log };
    case "jobEnded":
      return {
        event: "jobEnded",
        state: report.state,
        message: report.message,
        ...(report.log !== undefined && { log: report.log }),
      };
    case "stopped":
      return { event: "stopped", message: report.message };
    case "failure":
    case "fatal":
    default: {
      const { code, message, remedy, retry } = report.failure;
      return { event: report.kind, code, message, remedy, retry };
    }
  }
}

/** Names of the nodes that are known not to be ready; one without the condition has just come. */
export function lostNodesOf(nodes: readonly Stored<Node>[]): ReadonlySet<string> {
  return new Set(
    nodes
      .filter((node) => {
        const ready = node.status?.conditions?.find((one) => one.type === "Ready");
        return ready !== undefined && ready.status !== "True";
      })
      .map((node) => node.metadata.name),
  );
}

function millis(time: string | undefined): number | undefined {
  const at = time === undefined ? Number.NaN : Date.parse(time);
  return Number.isNaN(at) ? undefined : at;
}
