// What goes into a decision and what comes out of it: plain data on both sides.
//
// Invariants:
//   DT1. Actions are carried out in their order, and only after `status` is stored: status is the write-ahead log.
//   DT2. Every action may be carried out again: it names what it means (uid, operation id), or makes what a name derives from.
//
// Not here: who carries them out (apply).

import type { StreamJobSpec } from "@sluice/api";

import type { ConfigMap, Pod, Service } from "../kube/index.ts";
import type { Observed } from "../observe/index.ts";
import type { JobStatus } from "../status/index.ts";

/** A StreamJob as decide reads it. */
export interface JobView {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly generation: number;
  readonly hasFinalizer: boolean;
  readonly isDeleting: boolean;
  readonly spec: StreamJobSpec;
  /** What is wrong with the spec, in words; the API server lets none through, an older object may have some. */
  readonly problems: readonly string[];
  readonly status: JobStatus;
}

export interface Settings {
  /** Image of jobs that name none: the controller's own. */
  readonly defaultImage: string;
}

/** Where the JobManager of one attempt is reached. */
export interface JobManagerAddress {
  readonly podIp: string;
  readonly attempt: string;
  readonly jobId: string;
}

export type Action =
  | { readonly type: "addFinalizer" }
  | { readonly type: "removeFinalizer" }
  | { readonly type: "applyService"; readonly object: Service }
  | { readonly type: "createConfigMap"; readonly object: ConfigMap }
  /** Its values are secrets: apply computes them. */
  | { readonly type: "createSecret"; readonly name: string; readonly attempt: string }
  | { readonly type: "createPod"; readonly object: Pod }
  /** Asks the API server whether it would take these pods; nothing is made. The answer is observed (`trial`). */
  | { readonly type: "tryPods"; readonly opId: string; readonly objects: readonly Pod[] }
  | { readonly type: "deletePod"; readonly name: string; readonly uid: string }
  | { readonly type: "deleteConfigMap"; readonly name: string }
  | { readonly type: "deleteSecret"; readonly name: string }
  | ({ readonly type: "stopWithSavepoint"; readonly triggerId: string } & JobManagerAddress)
  | ({ readonly type: "cancelJob"; readonly operationId: string } & JobManagerAddress)
  /** Lets go of what the start of this attempt kept. */
  | ({ readonly type: "unpin"; readonly operationId: string } & JobManagerAddress);

export interface JobEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly action: string;
  readonly note: string;
}

export interface DecideInput {
  readonly job: JobView;
  readonly observed: Observed;
  readonly settings: Settings;
  /** Wall clock. */
  readonly nowMs: number;
}

export interface Decision {
  readonly status: JobStatus;
  readonly actions: readonly Action[];
  readonly events: readonly JobEvent[];
  readonly requeueAfterMs: number;
}
