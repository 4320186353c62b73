// What the tests read of Kubernetes' objects. Not the controller's types: a test that shares them shares their mistakes.

import type { StreamJobStatus } from "@sluice/api";

import type { KubeObject } from "./watch.ts";

export interface StreamJobObject extends KubeObject {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: StreamJobStatus;
}

export interface ContainerState {
  readonly running?: { readonly startedAt: string };
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly terminated?: { readonly exitCode: number; readonly reason?: string; readonly finishedAt?: string };
}

export interface ContainerStatus {
  readonly name: string;
  readonly ready: boolean;
  readonly restartCount: number;
  /** containerd://… */
  readonly containerID?: string;
  readonly state?: ContainerState;
  readonly lastState?: ContainerState;
}

export interface PodObject extends KubeObject {
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

export type Component = "jobmanager" | "taskmanager" | "preflight";

export function componentOf(pod: PodObject): string | undefined {
  return pod.metadata.labels?.["sluice.dev/component"];
}

/** The one container of ours. */
export function containerOf(pod: PodObject): ContainerStatus | undefined {
  return pod.status.containerStatuses?.[0];
}

export function isAlive(pod: PodObject): boolean {
  return (
    pod.metadata.deletionTimestamp === undefined && pod.status.phase !== "Failed" && pod.status.phase !== "Succeeded"
  );
}

/** A condition's status and reason, for example "True/Running"; undefined while it is not there. */
export function conditionOf(
  job: StreamJobObject | undefined,
  type: string,
):
  | { readonly status: string; readonly reason: string; readonly message: string; readonly generation: number }
  | undefined {
  const found = job?.status?.conditions?.find((one) => one.type === type);
  if (found === undefined) return undefined;
  const { status, reason, message, observedGeneration } = found;
  return { status, reason, message, generation: observedGeneration ?? 0 };
}
