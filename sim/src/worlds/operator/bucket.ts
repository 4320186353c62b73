// What the JobManagers of one StreamJob leave in their store: a commit log, as far as the operator depends on it.
//
// Invariants (checked here; a violation ends the run):
//   OW1. State is never begun anew where there was some, unless a spec said Stateless or somebody emptied the bucket on purpose.
//   OW2. A stop with a savepoint is taken once per operation id; a job that stops is not asked under another id.
//
// Not here: pods and processes (cluster.ts).

import type { StartInstructions } from "@sluice/api";

export interface Head {
  readonly kind: "checkpoint" | "savepoint";
  readonly id: number;
  readonly path: string;
}

export interface CommitLog {
  uid: string;
  epoch: number;
  lineage: string;
  submission: string;
  pastLineages: string[];
  jobState: "active" | "stopped" | "cancelled" | "failed" | "finished";
  nextId: number;
  head: Head | undefined;
  /** Stops by operation id; null: asked for, not done. */
  readonly stops: Map<string, string | null>;
}

export interface Claim {
  readonly epoch: number;
  readonly restored: Head | undefined;
  readonly submission: string;
  readonly attempt: string;
}

export type ClaimResult =
  | { readonly type: "claimed"; readonly epoch: number; readonly restored: Head | undefined }
  /** A JobManager of this submission has recorded the end of the job; nothing is left to do but to say so. */
  | { readonly type: "ended"; readonly state: "FINISHED" | "CANCELED" | "FAILED"; readonly epoch: number }
  | { readonly type: "refused"; readonly code: string; readonly message: string };

const ENDED = { stopped: "FINISHED", finished: "FINISHED", cancelled: "CANCELED" } as const;

export class Bucket {
  log: CommitLog | undefined;
  /** All claims, oldest first. */
  readonly claims: Claim[] = [];
  /** Savepoints that were completed: operation id and place. */
  readonly savepoints: { readonly triggerId: string; readonly path: string }[] = [];
  wipes = 0;
  created = 0;
  /** Lineages that a spec with Stateless allowed. */
  newLineages = 0;
  readonly #violate: (reason: string) => void;

  constructor(violate: (reason: string) => void) {
    this.#violate = violate;
  }

  /** Somebody deletes everything. */
  wipe(): void {
    this.log = undefined;
    this.wipes += 1;
  }

  /** What a JobManager's start does (runtime's decideStart, in short). */
  claim(of: {
    readonly uid: string;
    readonly submission: string;
    readonly attempt: string;
    readonly start: StartInstructions;
  }): ClaimResult {
    const { log } = this;
    if (log === undefined) {
      if (!of.start.mayCreate) return { type: "refused", code: "SNAPSHOT_DAMAGED", message: "there is no commit log" };
      if (this.claims.length > 0) this.#violate("OW1: a commit log was begun anew although the job had one");
      this.created += 1;
      this.log = {
        uid: of.uid,
        epoch: 1,
        lineage: of.submission,
        submission: of.submission,
        pastLineages: [],
        jobState: "active",
        nextId: 1,
        head: undefined,
        stops: new Map(),
      };
      return this.#claimed(of);
    }
    if (log.uid !== of.uid && of.start.onForeignLog === "refuse")
      return { type: "refused", code: "JOB_FOREIGN", message: "the log is of another uid" };
    const isOwn = log.submission === of.submission;
    if (isOwn && log.jobState !== "active" && log.jobState !== "failed")
      return { type: "ended", state: ENDED[log.jobState], epoch: log.epoch };
    if (log.pastLineages.includes(of.submission))
      return { type: "refused", code: "JOB_CLOSED", message: "this lineage was replaced" };
    if (!isOwn && of.start.newLineage) {
      log.pastLineages.push(log.lineage);
      log.lineage = of.submission;
      log.head = undefined;
      this.newLineages += 1;
    } else if (log.jobState === "finished") {
      return { type: "refused", code: "JOB_FINISHED", message: "the job has finished" };
    }
    log.uid = of.uid;
    log.epoch += 1;
    log.submission = of.submission;
    log.jobState = "active";
    return this.#claimed(of);
  }

  #claimed(of: { readonly submission: string; readonly attempt: string }): ClaimResult {
    const { log } = this;
    if (log === undefined) throw new Error("a claimed log exists");
    const { epoch, head } = log;
    this.claims.push({ epoch, restored: head, submission: of.submission, attempt: of.attempt });
    return { type: "claimed", epoch, restored: head };
  }

  /** A JobManager of `epoch` completes a checkpoint; false: it is fenced. */
  commit(epoch: number): boolean {
    const { log } = this;
    if (log === undefined || log.epoch !== epoch || log.jobState !== "active") return false;
    log.head = { kind: "checkpoint", id: log.nextId, path: `chk-${log.nextId}` };
    log.nextId += 1;
    return true;
  }

  /** Records a stop before it is done (S0); false: fenced. */
  recordStop(epoch: number, triggerId: string): boolean {
    const { log } = this;
    if (log === undefined || log.epoch !== epoch) return false;
    for (const [other, place] of log.stops)
      if (other !== triggerId && place === null)
        this.#violate(`OW2: a stop under ${triggerId} while ${other} is under way`);
    if (!log.stops.has(triggerId)) log.stops.set(triggerId, null);
    return true;
  }

  /** The savepoint of a stop becomes the head (P4); false: fenced. */
  completeStop(epoch: number, triggerId: string): boolean {
    const { log } = this;
    if (log === undefined || log.epoch !== epoch || log.jobState !== "active") return false;
    if (this.savepoints.some((one) => one.triggerId === triggerId)) this.#violate(`OW2: ${triggerId} was taken twice`);
    const path = `savepoint-${log.nextId}`;
    log.head = { kind: "savepoint", id: log.nextId, path };
    log.nextId += 1;
    log.jobState = "stopped";
    log.stops.set(triggerId, path);
    this.savepoints.push({ triggerId, path });
    return true;
  }

  end(epoch: number, jobState: "cancelled" | "failed" | "finished"): void {
    const { log } = this;
    if (log !== undefined && log.epoch === epoch && log.jobState === "active") log.jobState = jobState;
  }
}
