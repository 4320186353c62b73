// GET /sluice/status: all that whoever looks after a job needs to know, in one answer.
//
// Invariants:
//   ST1. It is answered as soon as the JobManager listens: what is not known yet is null, empty or 0.
//   ST2. Counts begin with this JobManager process; what lasts longer is what the commit log says (`log`).
//
// Not here: what operations came of (operations.ts), vertices and metrics (jobs.ts, vertices.ts).

import { flag, hexId, integer, list, named, nullable, object, text } from "../schema.ts";
import type { Message } from "../schema.ts";
import { JobStateName } from "./jobs.ts";

/** One completed checkpoint or savepoint. */
export const SnapshotSummary = named(
  "SnapshotSummary",
  object({
    id: integer(),
    path: text("URI of its directory."),
    completedAtMs: integer("Wall clock."),
    sizeBytes: integer(),
  }),
);
export type SnapshotSummary = Message<typeof SnapshotSummary>;

export const SluiceStatusMessage = named(
  "SluiceStatus",
  object({
    jobId: hexId(),
    jobName: text(),
    state: JobStateName,
    sinceMs: integer("Wall clock of when it entered this state."),
    runningSinceMs: integer("Wall clock of when it was RUNNING last; -1: never in this process."),
    restarts: integer("Of the job, in this process."),
    failure: nullable(object({ code: text(), message: text(), atMs: integer() })),
    taskManagers: object({
      registered: list(text(), "Ids of the TaskManagers that are connected now."),
      slots: integer("Of the registered ones."),
      slotsRequired: integer("What the job needs to run."),
    }),
    checkpoints: object({
      completed: integer("In this process, savepoints included."),
      failed: integer(),
      latest: nullable(SnapshotSummary),
      latestSavepoint: nullable(SnapshotSummary),
      restored: nullable(
        object({ id: integer(), path: text(), isSavepoint: flag(), atMs: integer("Wall clock of the restore.") }),
      ),
    }),
    submission: text("The start that this JobManager belongs to."),
    log: nullable(
      object({
        seq: integer("Of the newest record."),
        epoch: integer("Grows with every JobManager that claims the log."),
        uid: text("Identity of the job that owns it."),
        lineage: text(),
        headId: nullable(integer()),
        headPath: nullable(text("URI of its directory.")),
        pins: list(object({ holder: text(), id: integer(), path: text() }), "What is kept for somebody else."),
      }),
    ),
  }),
);
export type SluiceStatusMessage = Message<typeof SluiceStatusMessage>;
