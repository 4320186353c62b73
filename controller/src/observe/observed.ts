// What the cluster and the JobManager say about one StreamJob, as plain data: all that decide may know of the world.
//
// Invariants:
//   OB1. Nothing here is believed further than it was seen: what was not answered is absent.
//   OB2. An answer of a JobManager that belongs to another attempt does not get in (read.ts checks the submission).
//
// Not here: where it comes from (read.ts, pods.ts).

import type { JobStateName, LogHead } from "@sluice/api";

export type { LogHead };

/** How a container ended. */
export interface Ended {
  readonly exitCode: number;
  /** "OOMKilled", "Error", "Completed" ... */
  readonly reason: string;
  readonly atMs: number | undefined;
  /** What the process left in its termination log. */
  readonly report: PodReportView | undefined;
}

/** A PodReport as far as the controller uses it. */
export interface PodReportView {
  readonly event: "preflight" | "failure" | "jobEnded" | "stopped" | "fatal";
  /** Of preflight: the plan can run. */
  readonly ok?: boolean;
  /** Of preflight: slots that the plan needs. */
  readonly slots?: number;
  /** Of preflight and jobEnded: the head of the commit log. */
  readonly log?: LogHead;
  /** Of jobEnded. */
  readonly state?: "FINISHED" | "CANCELED" | "FAILED";
  /** Of failure and fatal. */
  readonly code?: string;
  readonly message?: string;
  readonly remedy?: string;
  readonly retry?: "now" | "backoff" | "never";
}

export interface PodView {
  readonly name: string;
  readonly uid: string;
  readonly component: "jobmanager" | "taskmanager" | "preflight";
  readonly attempt: string;
  readonly phase: "Pending" | "Running" | "Succeeded" | "Failed" | "Unknown";
  readonly isReady: boolean;
  readonly isDeleting: boolean;
  /** When it was asked to go, by the API server's clock. */
  readonly deletingSinceMs: number | undefined;
  readonly createdAtMs: number | undefined;
  readonly podIp: string | undefined;
  readonly node: string | undefined;
  /** Its node is known not to be ready: nobody says what the pod does. */
  readonly isNodeLost: boolean;
  /** The scheduler's words, when it finds no node. */
  readonly unschedulable: string | undefined;
  /** Why the container does not run. */
  readonly waiting: { readonly reason: string; readonly message: string } | undefined;
  readonly restartCount: number;
  readonly ended: Ended | undefined;
  /** How the container's run before the present one ended. */
  readonly lastEnded: Ended | undefined;
  /** The pod's own reason and message: "Evicted", "Preempting" ... */
  readonly reason: string;
  readonly message: string;
}

export interface SnapshotView {
  readonly id: number;
  readonly path: string;
  readonly completedAtMs: number;
  readonly sizeBytes: number;
}

/** What the JobManager of the present attempt answers. */
export interface JobManagerView {
  /** Pod and container run that answered: counters begin anew with another one. */
  readonly run: string;
  readonly jobId: string;
  readonly state: JobStateName;
  /** RUNNING, and with all the slots that it needs: Flink calls a job RUNNING that still waits for some. */
  readonly isRunning: boolean;
  readonly restarts: number;
  readonly failure: { readonly code: string; readonly message: string } | undefined;
  readonly registeredTaskManagers: number;
  readonly completedCheckpoints: number;
  readonly lastCheckpoint: SnapshotView | undefined;
  readonly lastSavepoint: SnapshotView | undefined;
  /** Starts of the job keep snapshots until they are told that the new version is good. */
  readonly keepsForStarts: boolean;
}

/** What came of the stop that the present operation asked for. */
export type OperationView =
  | { readonly type: "unknown" }
  | { readonly type: "running" }
  | { readonly type: "completed"; readonly location: string }
  | { readonly type: "failed"; readonly message: string };

/** The newest action that the API server refused; kept in memory, so a new controller meets it again. */
export interface RefusedAction {
  readonly opId: string | undefined;
  readonly what: string;
  readonly status: number;
  readonly message: string;
}

/** What the API server said to a dry run of an operation's pods; kept in memory: a new controller asks again. */
export interface PodTrial {
  readonly opId: string;
  /** The first one that it would not take. */
  readonly refused: Omit<RefusedAction, "opId"> | undefined;
}

export interface Observed {
  /** All pods of the StreamJob, of all attempts. */
  readonly pods: readonly PodView[];
  readonly jobManager: JobManagerView | undefined;
  readonly operation: OperationView | undefined;
  readonly isNamespaceTerminating: boolean;
  readonly refused: RefusedAction | undefined;
  readonly trial: PodTrial | undefined;
}
