// Holds what becomes of operations against their invariants: at every record of the commit log, every answer, every deployment.
//
// Invariants checked (OP1-OP4, OJ1-OJ3, RO1-RO3 of the runtime, seen from outside):
//   OS1. An operation that was accepted is in the log (a cancellation may be begun without).
//   OS2. An operation stays in the log until it has an outcome, which never changes; what is told is what the log says. The record that ends
//        a run, or begins another one, leaves none without an outcome.
//   OS3. A failure has a reason that lies in the world, and the death of a process is none where the operation must outlive it.
//   OS4. An operation happens once and whole: one JobManager takes at most one savepoint for each, and rescales once for each; what follows
//        one (the cancellation after a savepoint) begins with the record of its outcome.
//   OS5. A savepoint that is done is whole, and stays whole until somebody disposes of it.
//   OS6. The savepoint of a stop is the head by the record that says that the stop is done.
//   OS7. What the log says about parallelism changes only by the record that says that a rescale is done, and is what comes after it is
//        deployed at. A refused one changes nothing.
//   OS8. A job whose cancellation is in the log is not deployed by a later JobManager; a run that has ended is not deployed again.
//
// Not here: liveness (world.ts), the checkpoints themselves (commit-checks.ts).

import type { CommitRecord, OperationOutcome, RecordedOperation } from "@sluice/runtime/internal/checkpoint";
import type { CheckpointTrigger } from "@sluice/runtime/internal/checkpoint";
import type { DeployRequest } from "@sluice/runtime/internal/rpc";
import type { World } from "../../index.ts";
import type { CommitChecks } from "../commit-checks.ts";
import { whyUnjustified } from "./justified.ts";
import type { Incidents } from "./justified.ts";

/** What a JobManager had under way when its log had just changed may come so much later. */
const LATE_MS = 10_000;

interface Known {
  op: RecordedOperation;
  readonly recordedMs: number;
  readonly epoch: number;
  /** The head when it was recorded. */
  readonly headId: number;
}

interface OfEpoch {
  readonly submission: string;
  /** Operations of kinds that take a savepoint, by id, that this epoch had to do. */
  readonly savepointing: Set<string>;
  readonly locations: Set<string>;
  /** Rescales that this epoch recorded. */
  rescaleCount: number;
  /** Attempts seen, and at which parallelism. */
  readonly attempts: Map<number, number>;
  /** What it may still deploy besides what the log says: one attempt that was under way. */
  readonly mayDeploy: Set<number>;
}

export interface OperationChecksOptions {
  readonly world: World;
  readonly commits: CommitChecks;
  readonly incidents: Incidents;
  readonly plannedParallelism: number;
  /** How the store calls the job's savepoints: URI without it is the path of the directory. */
  readonly storeUri: string;
}

export class OperationChecks {
  readonly counts: Record<string, number> = {};
  readonly #options: OperationChecksOptions;
  readonly #known = new Map<string, Known>();
  readonly #epochs = new Map<number, OfEpoch>();
  /** Directories of savepoints that are done. */
  readonly #kept = new Map<string, string>();
  readonly #disposed = new Set<string>();
  /** Submissions whose end, or whose cancellation, is in the log: since which epoch and when. */
  readonly #cancelled = new Map<string, number>();
  readonly #ended = new Map<string, { readonly epoch: number; readonly atMs: number }>();
  lastDeployedParallelism = 0;
  lastRescaleMs = 0;

  constructor(options: OperationChecksOptions) {
    this.#options = options;
    options.world.observers.push({ removed: (path) => this.#removed(path) });
  }

  /** Ids without an outcome. */
  get open(): readonly string[] {
    return [...this.#known.values()].filter(({ op }) => op.outcome === null).map(({ op }) => op.id);
  }

  /** Done, not disposed of, and not the head of the log. */
  get disposable(): readonly string[] {
    const head = this.#options.commits.truth?.head?.path ?? "";
    return [...this.#kept.keys()].filter((directory) => !head.startsWith(`${directory}/`));
  }

  outcomeOf(id: string): OperationOutcome | null | undefined {
    return this.#known.get(id)?.op.outcome;
  }

  // ---- what users are told

  accepted(id: string, kind: string): void {
    if (kind !== "cancel" && !this.#known.has(id))
      this.#violate(`OS1: ${kind} ${short(id)} was accepted and is not in the log`);
  }

  told(id: string, kind: string, outcome: OperationOutcome): void {
    const known = this.#known.get(id);
    // Cancelling a cancelled job again needs no record.
    if (known === undefined && kind === "cancel" && this.#options.commits.truth?.jobState === "cancelled") return;
    if (known === undefined) return this.#violate(`OS2: an outcome of ${short(id)} was told, which is not in the log`);
    if (!isSame(known.op.outcome, outcome))
      this.#violate(`OS2: of ${short(id)} was told ${text(outcome)}, the log says ${text(known.op.outcome)}`);
  }

  /** `count`: what a JobManager says of itself. */
  rescaled(epoch: number, count: number): void {
    const recorded = this.#epochs.get(epoch)?.rescaleCount ?? 0;
    if (count > recorded) this.#violate(`OS4: epoch ${epoch} rescaled ${count} times, the log says ${recorded}`);
  }

  // ---- the log

  appended(record: CommitRecord, before: CommitRecord | undefined): void {
    const isClaim = record.epoch !== before?.epoch;
    if (isClaim) this.#claimed(record);
    this.#checkRescale(record, before);
    for (const op of record.ops) {
      const known = this.#known.get(op.id);
      if (known === undefined) this.#began(op, record, before);
      else this.#changed(known, op, record, before);
    }
    for (const { op } of this.#known.values()) {
      if (op.outcome === null && !record.ops.some(({ id }) => id === op.id))
        this.#violate(`OS2: ${op.request.kind} ${short(op.id)} vanished from record ${record.seq} without an outcome`);
    }
    const isNewRun = before !== undefined && before.submission !== record.submission;
    const isEnded = record.jobState !== "active" && record.jobState !== "stopping" && record.jobState !== "draining";
    const open = record.ops.find(({ outcome }) => outcome === null);
    if ((isNewRun || isEnded) && open !== undefined)
      this.#violate(
        `OS2: ${open.request.kind} ${short(open.id)} outlives its run (record ${record.seq}, ${record.jobState})`,
      );
    if (isEnded && !this.#ended.has(record.submission))
      this.#ended.set(record.submission, { epoch: record.epoch, atMs: this.#options.world.loop.nowMs });
  }

  #claimed(record: CommitRecord): void {
    const savepointing = record.ops.filter((op) => op.outcome === null && takesSavepoint(op)).map(({ id }) => id);
    this.#epochs.set(record.epoch, {
      submission: record.submission,
      savepointing: new Set(savepointing),
      locations: new Set(),
      rescaleCount: 0,
      attempts: new Map(),
      mayDeploy: new Set(),
    });
  }

  #began(op: RecordedOperation, record: CommitRecord, before: CommitRecord | undefined): void {
    const { world } = this.#options;
    const known = {
      op: { ...op, outcome: null },
      recordedMs: world.loop.nowMs,
      epoch: record.epoch,
      headId: before?.head?.id ?? 0,
    };
    this.#known.set(op.id, known);
    this.#count(`asked ${op.request.kind}`);
    if (takesSavepoint(op)) this.#epochs.get(record.epoch)?.savepointing.add(op.id);
    if (op.request.kind === "cancel") {
      if (!this.#cancelled.has(record.submission)) this.#cancelled.set(record.submission, record.epoch);
      this.#options.incidents.restarted(world.loop.nowMs); // what is under way is cut off
    }
    if (op.outcome !== null) this.#changed(known, op, record, before);
  }

  #changed(known: Known, op: RecordedOperation, record: CommitRecord, before: CommitRecord | undefined): void {
    const old = known.op;
    if (isSame(old.outcome, op.outcome)) return;
    if (old.outcome !== null)
      return this.#violate(`OS2: the outcome of ${short(op.id)} went from ${text(old.outcome)} to ${text(op.outcome)}`);
    if (op.outcome === null) return;
    known.op = op;
    if (record.epoch > known.epoch) this.#count("survived a JobManager");
    if (op.outcome.type === "done") {
      this.#count(`done ${op.request.kind}`);
      this.#checkDone(known, op.outcome, record, before);
      return;
    }
    const { code, message } = op.outcome.failure;
    this.#count(`failed ${op.request.kind} ${code}`);
    const why = whyUnjustified({
      kind: op.request.kind,
      request: op.request,
      code,
      message,
      recordedMs: known.recordedMs,
      nowMs: this.#options.world.loop.nowMs,
      isResumed: record.epoch > known.epoch,
      record,
      before,
      incidents: this.#options.incidents,
    });
    if (why !== undefined)
      this.#violate(`OS3: ${op.request.kind} ${short(op.id)} failed with ${code} (${message}), but ${why}`);
    if (op.request.kind === "stop") this.#options.incidents.restarted(this.#options.world.loop.nowMs);
  }

  #checkDone(
    known: Known,
    outcome: Extract<OperationOutcome, { readonly type: "done" }>,
    record: CommitRecord,
    before: CommitRecord | undefined,
  ): void {
    const { world, commits } = this.#options;
    const { id, request } = known.op;
    const what = `${request.kind} ${short(id)}`;
    switch (request.kind) {
      case "savepoint":
      case "stop": {
        const directory = this.#directoryOf(outcome.location ?? "");
        commits.savepointTaken(`${directory}/_metadata`); // OS5
        this.#kept.set(directory, what);
        if (request.kind === "savepoint") {
          const follows = record.ops.some((op) => op.request.kind === "cancel" && !this.#known.has(op.id));
          if (request.cancelsJob && !follows)
            this.#violate(
              `OS4: ${what} is done and is to cancel the job, which nobody would remember (record ${record.seq})`,
            );
          return;
        }
        const state = request.drain ? "draining" : "stopping";
        if (
          record.head?.path !== `${directory}/_metadata` ||
          record.jobState !== state ||
          before?.jobState !== "active"
        )
          this.#violate(
            `OS6: ${what} is done, but the head is ${record.head?.path ?? "none"} and the job ${record.jobState}`,
          );
        return;
      }
      case "rescale": {
        const { rescale } = record;
        if (!isSame(rescale?.requirements, request.requirements))
          return this.#violate(`OS7: ${what} is done, but the log asks for ${text(rescale?.requirements)}`);
        for (const [vertex, parallelism] of Object.entries(rescale?.parallelism ?? {})) {
          const bounds = request.requirements[vertex]?.parallelism;
          if (bounds === undefined || parallelism < bounds.lowerBound || parallelism > bounds.upperBound)
            this.#violate(`OS7: ${what} is done at ${parallelism}, out of ${text(bounds)}`);
        }
        return;
      }
      case "cancel":
        if (record.jobState !== "cancelled") this.#violate(`OS8: ${what} is done, but the job is ${record.jobState}`);
        return;
      case "checkpoint": {
        const taken = outcome.checkpointId ?? 0;
        if (taken <= known.headId || !commits.wasHead(taken))
          this.#violate(
            `OS3: ${what} is done with checkpoint ${taken}, which was not committed after it (${known.headId})`,
          );
        return;
      }
      case "dispose": {
        const directory = this.#directoryOf(request.savepointPath);
        if (world.storage.objects.has(`${directory}/_metadata`))
          this.#violate(`OS5: ${what} is done, but ${directory} is there`);
        return;
      }
      case "unpin":
        return;
    }
  }

  /** OS7. */
  #checkRescale(record: CommitRecord, before: CommitRecord | undefined): void {
    if (isSame(record.rescale ?? null, before?.rescale ?? null)) return;
    if (before?.submission !== record.submission && (record.rescale ?? null) === null) return; // another run, as planned
    const done = record.ops.filter((op) => {
      const known = this.#known.get(op.id);
      return op.request.kind === "rescale" && op.outcome?.type === "done" && known?.op.outcome === null;
    });
    if (done.length !== 1)
      return this.#violate(`OS7: record ${record.seq} changes the parallelism, ${done.length} rescales are done by it`);
    this.lastRescaleMs = this.#options.world.loop.nowMs;
    this.#options.incidents.restarted(this.lastRescaleMs);
    const epoch = this.#epochs.get(record.epoch);
    if (epoch === undefined) return;
    epoch.rescaleCount += 1;
    epoch.mayDeploy.add(this.#parallelismOf(before)); // what was under way when the record was written
  }

  #parallelismOf(record: CommitRecord | undefined): number {
    return Object.values(record?.rescale?.parallelism ?? {})[0] ?? this.#options.plannedParallelism;
  }

  // ---- what TaskManagers see

  deployed({ epoch, attempt, plan }: DeployRequest): void {
    const { world, commits } = this.#options;
    const of = this.#epochs.get(epoch);
    if (of === undefined || of.attempts.has(attempt)) return;
    const parallelism = plan.vertices[0]?.parallelism ?? 0;
    of.attempts.set(attempt, parallelism);
    const { truth } = commits;
    const cancelledIn = this.#cancelled.get(of.submission);
    if (cancelledIn !== undefined && epoch > cancelledIn)
      this.#violate(`OS8: epoch ${epoch} deploys the job, whose cancellation epoch ${cancelledIn} has recorded`);
    const ended = this.#ended.get(of.submission);
    if (ended !== undefined && (epoch > ended.epoch || world.loop.nowMs > ended.atMs + LATE_MS))
      this.#violate(`OS8: epoch ${epoch} deploys ${of.submission}, which epoch ${ended.epoch} has ended`);
    if (truth?.epoch !== epoch) return; // a zombie
    this.lastDeployedParallelism = parallelism;
    if (attempt > 0 || of.rescaleCount > 0) this.#options.incidents.restarted(world.loop.nowMs);
    const wanted = this.#parallelismOf(truth);
    if (parallelism === wanted) return;
    if (!of.mayDeploy.delete(parallelism))
      this.#violate(`OS7: epoch ${epoch} deploys attempt ${attempt} at ${parallelism}, the log says ${wanted}`);
  }

  triggered({ epoch, barrier }: CheckpointTrigger): void {
    const { savepoint, checkpointId } = barrier;
    if (savepoint === undefined) return;
    const directory = this.#directoryOf(savepoint.location);
    if (!savepoint.stops) this.#options.commits.intermediates.add(`${directory}/_metadata`);
    const of = this.#epochs.get(epoch);
    if (of === undefined) return;
    of.locations.add(savepoint.location);
    if (of.locations.size > of.savepointing.size)
      this.#violate(
        `OS4: epoch ${epoch} takes savepoint ${checkpointId}, its ${of.locations.size}. of ${of.savepointing.size} operations`,
      );
  }

  // ---- savepoints

  disposing(directory: string): void {
    this.#disposed.add(directory);
    this.#kept.delete(directory);
  }

  /** OS5, for all at the end. */
  finish(): void {
    for (const directory of this.#kept.keys()) this.#options.commits.savepointTaken(`${directory}/_metadata`);
  }

  #removed(path: string): void {
    const directory = path.slice(0, path.lastIndexOf("/"));
    const what = this.#kept.get(directory);
    if (what !== undefined) this.#violate(`OS5: ${path} of ${what}, which is done, was removed`);
  }

  #directoryOf(location: string): string {
    return location.slice(this.#options.storeUri.length + 1);
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  #violate(reason: string): void {
    this.#options.world.violate(reason);
  }
}

function takesSavepoint({ request }: RecordedOperation): boolean {
  return request.kind === "savepoint" || request.kind === "stop";
}

function short(id: string): string {
  return id.slice(0, 8);
}

function text(value: unknown): string {
  return JSON.stringify(value) ?? "nothing";
}

/** Both come from JSON, or were made in the same order. */
function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
