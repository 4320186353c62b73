// What the controller says of a job: `status` of a StreamJob. It is also the controller's write-ahead log: steps are written here
// before they are done.
//
// Not here: what the words mean for a reader (docs/operator/streamjob.md), who writes them when (controller/src/decide).

import { explained, flag, hexId, integer, limited, list, object, oneOf, opaque, text, time } from "../schema.ts";
import type { Message } from "../schema.ts";
import { JOB_STATE_NAMES } from "../rest/index.ts";
import { StartInstructions } from "./pod-config.ts";
import { UPGRADE_MODES } from "./spec-fields.ts";
import type { StreamJobSpec } from "./spec.ts";

const count = (description: string): ReturnType<typeof integer> => limited(integer(description), { format: "int64" });

export const LIFECYCLE_STATES = [
  "Created",
  "Preflight",
  "Deploying",
  "Deployed",
  "Stable",
  "Upgrading",
  "Suspended",
  "Finished",
  "Failed",
  "Stalled",
  "Deleting",
] as const;
export type LifecycleState = (typeof LIFECYCLE_STATES)[number];

export const OPERATION_KINDS = ["Deploy", "Upgrade", "Restart", "Suspend", "Delete"] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];
export const OPERATION_STEPS = ["Preflight", "Stop", "Fence", "Deploy", "Verify"] as const;
export type OperationStep = (typeof OPERATION_STEPS)[number];

/** `metav1.Condition`, kstatus types. */
export const Condition = object(
  {
    type: limited(text("Ready, Progressing, Degraded or Stalled."), { maxLength: 64 }),
    status: oneOf(["True", "False", "Unknown"]),
    reason: limited(text("One word in CamelCase."), { maxLength: 128 }),
    message: limited(text("What, and what to do."), { maxLength: 32_768 }),
    lastTransitionTime: time("When `status` changed last."),
  },
  { observedGeneration: count("The generation that it speaks of.") },
);
export type Condition = Message<typeof Condition>;

/** A completed checkpoint or savepoint. */
export const SnapshotStatus = object(
  {
    path: text("Its directory or `_metadata`, as initialSnapshot.path takes it."),
    completedAt: time(),
  },
  {
    id: count(
      "Its id; absent of a savepoint that a job was stopped with, when its JobManager was gone before it told.",
    ),
    sizeBytes: count("Size of its state."),
  },
);
export type SnapshotStatus = Message<typeof SnapshotStatus>;

const attempt = text("10 hex digits in the names of its pods.");

/** How a running job is stopped: `upgradeMode` of the spec that asks for it. */
const stopMode = oneOf(UPGRADE_MODES, "How the running job is stopped.");

export const Operation = object(
  {
    id: text("uid/generation/tries: the same operation keeps it, whoever carries it out."),
    kind: oneOf(OPERATION_KINDS),
    step: oneOf(OPERATION_STEPS),
    generation: count("Of the spec that it brings about."),
    hash: text("Of that spec."),
    tries: integer("Number of this try."),
    mode: stopMode,
    startedAt: time(),
    stepAt: time("When this step began."),
  },
  {
    deadline: time("When the step has failed."),
    triggerId: hexId("Of the stop with a savepoint; written before it is asked for."),
    isStopped: flag("What ran before is stopped, or being ended."),
    savepoint: text("What it was stopped with."),
    foundNoLog: flag("Preflight found no commit log, and none is missing."),
    returns: flag("The version before is started again: the newest spec was refused after the job had been stopped."),
    slots: integer("That the plan needs, as preflight found."),
    podUids: list(text(), "Pods that are to end."),
    baseline: explained(
      "Where the verification counts from.",
      object({ process: text("Run of a JobManager."), restarts: integer(), completed: integer("Checkpoints.") }),
    ),
    message: text("What an earlier try met."),
  },
);
export type Operation = Message<typeof Operation>;

export const Decision = object({ at: time(), generation: count("Of the spec."), decision: text(), reason: text() });
export type Decision = Message<typeof Decision>;

export const ENDED_STATES = ["FINISHED", "CANCELED", "FAILED", "STALLED", "SUSPENDED"] as const;
export type EndedState = (typeof ENDED_STATES)[number];

/** A pod that ought to be there. Its uid is written down once it was seen: when it is missing afterwards, the pod is lost. */
const PodRef = object({ index: integer("In its name.") }, { uid: text() });
export type PodRef = Message<typeof PodRef>;

const DeployedVersion = object(
  {
    generation: count("Of its spec."),
    hash: text("Of its spec: what a change of it would restart."),
    attempt,
    submission: text("12 hex digits: the lineage that its JobManager would create."),
    image: text(),
    parallelism: integer(),
    restore: explained("What its JobManager is told to start from.", StartInstructions),
    startedAt: time("When its pods were begun to be made."),
    pods: object({
      next: integer("Index of the next pod that is made: none is used twice."),
      jobManager: PodRef,
      taskManagers: list(PodRef),
    }),
  },
  {
    savepoint: text("What the version before stopped with."),
    runningAt: time("When the job was first seen RUNNING in this attempt."),
    ended: oneOf(ENDED_STATES, "Nothing of it runs any more."),
    process: explained(
      "The run of its JobManager whose restarts were counted last.",
      object({ id: text(), restarts: integer() }),
    ),
    replaced: integer("Pods that failed and were replaced."),
    progress: explained(
      "Crashes up to a completed checkpoint: later ones count against the job.",
      object({ checkpointId: count("Its id."), crashes: integer() }),
    ),
  },
);
export type DeployedVersion = Message<typeof DeployedVersion>;

const StableVersion = object({ generation: count("Of its spec."), hash: text(), attempt, at: time() });
export type StableVersion = Message<typeof StableVersion>;

export const StreamJobStatus = explained(
  "Written by the controller.",
  object(
    {},
    {
      observedGeneration: count("The newest generation that the controller has looked at."),
      lifecycleState: oneOf(LIFECYCLE_STATES, "Where the job is."),
      jobId: hexId("Of REST."),
      jobState: oneOf(JOB_STATE_NAMES, "Of REST; absent when nobody answers."),
      everStateful: flag("The job may have a commit log: a missing one is a failure from now on."),
      restarts: count("Of the job, over all attempts."),
      taskManagers: object({
        wanted: integer(),
        ready: integer(),
        summary: text("ready/wanted, for kubectl."),
      }),
      lastCheckpoint: SnapshotStatus,
      lastSavepoint: SnapshotStatus,
      deployed: explained("What runs, or is being started.", DeployedVersion),
      deployedSpec: opaque<StreamJobSpec>("The spec that `deployed` was made of."),
      lastStable: explained("The newest version that became stable.", StableVersion),
      lastStableSpec: opaque<StreamJobSpec>("Its spec."),
      op: explained("The operation under way.", Operation),
      decisions: limited(list(Decision, "Newest last."), { maxItems: 10 }),
      conditions: limited(list(Condition), {
        maxItems: 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
      }),
    },
  ),
);
export type StreamJobStatus = Message<typeof StreamJobStatus>;
