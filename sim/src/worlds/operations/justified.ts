// Whether the failure of an operation has a cause in the world, and not only in the code.
//
// The rules, by who may be the cause (docs of the runtime: RO3, SQ1, design/0010 and 0020):
//   - The end of the run settles everything that runs.
//   - The death of a JobManager is never a cause: the next one begins what it finds again.
//   - A restart of the job (a TaskManager was lost, checkpoints failed, another stop or rescale) is a cause for savepoints, stops and
//     checkpoints, whose barriers it cuts off; for a rescale it is none.
//   - A checkpoint that fails by itself (declined, expired, the store) is a cause for all of them.
//
// Not here: which incidents there were (world.ts tells).

import type { CommitRecord, OperationRequest } from "@sluice/runtime/internal/checkpoint";

/** How far back a cause may lie: a lost connection is noticed late. */
const NOTICED_LATE_MS = 4_000;
const NEVER = -Infinity;
/** So long after the end of all faults nothing that was asked for is left undone while the job runs. */
const UNDONE_MS = 7_000;
/** A rescale that is begun again waits for the slots it needs, for half a minute (rescale-operation.ts). */
const SLOTS_MS = 33_000;

/** What went wrong, and when. */
export class Incidents {
  /** Of all TaskManagers. */
  readonly slotCount: number;
  readonly #timeoutMs: number;
  readonly #hasStoreFaults: boolean;
  readonly #hasNetFaults: boolean;
  #restartMs = NEVER;
  #declineMs = NEVER;
  #inputEndedMs = NEVER;
  #fewSlotsMs = NEVER;
  #claimedMs = NEVER;
  #healedMs = Infinity;

  constructor(options: {
    readonly slotCount: number;
    readonly timeoutMs: number;
    readonly hasStoreFaults: boolean;
    readonly hasNetFaults: boolean;
  }) {
    this.slotCount = options.slotCount;
    this.#timeoutMs = options.timeoutMs;
    this.#hasStoreFaults = options.hasStoreFaults;
    this.#hasNetFaults = options.hasNetFaults;
  }

  /** A TaskManager died, was paused or cut off, or the job went to another attempt. */
  restarted(nowMs: number): void {
    this.#restartMs = nowMs;
  }

  declined(nowMs: number): void {
    this.#declineMs = nowMs;
  }

  inputEnded(nowMs: number): void {
    this.#inputEndedMs = nowMs;
  }

  /** Nothing fails from now on. */
  healed(nowMs: number): void {
    this.#healedMs = nowMs;
    this.restarted(nowMs);
  }

  /** It could have been done since. */
  isLeftUndone(sinceMs: number, nowMs: number, waitsMs: number): boolean {
    return nowMs - Math.max(sinceMs, this.#healedMs) > UNDONE_MS + waitsMs;
  }

  /** Not all TaskManagers are there. */
  fewSlots(nowMs: number): void {
    this.#fewSlotsMs = nowMs;
  }

  /** A JobManager begins: TaskManagers come one after the other. */
  claimed(nowMs: number): void {
    this.#claimedMs = nowMs;
  }

  get hasStoreFaults(): boolean {
    return this.#hasStoreFaults;
  }

  wasRestarted(sinceMs: number): boolean {
    return (
      this.#hasNetFaults ||
      this.#hasStoreFaults ||
      this.#restartMs >= sinceMs - NOTICED_LATE_MS ||
      this.checkpointFailed(sinceMs, this.#declineMs)
    );
  }

  /** By itself: a task or the store refused, or its time was over, at `nowMs` or before. */
  checkpointFailed(sinceMs: number, nowMs: number): boolean {
    return this.#declineMs >= sinceMs || nowMs - sinceMs >= this.#timeoutMs * 0.95;
  }

  hasInputEnded(): boolean {
    return this.#inputEndedMs > NEVER;
  }

  /** `isResumed`: by a JobManager that waits for the TaskManagers of the one before. */
  hadFewSlots(sinceMs: number, isResumed: boolean): boolean {
    const noticedMs = sinceMs - NOTICED_LATE_MS;
    return this.#hasNetFaults || this.#fewSlotsMs >= noticedMs || (!isResumed && this.#claimedMs >= noticedMs);
  }
}

export interface FailedOperation {
  readonly kind: OperationRequest["kind"];
  readonly request: OperationRequest;
  readonly code: string;
  readonly message: string;
  readonly recordedMs: number;
  readonly nowMs: number;
  /** A JobManager began it that is not there any more. */
  readonly isResumed: boolean;
  /** That says so. */
  readonly record: CommitRecord;
  readonly before: CommitRecord | undefined;
  readonly incidents: Incidents;
}

/** Undefined: there is a cause. */
export function whyUnjustified(failed: FailedOperation): string | undefined {
  const { kind, code, record, before, incidents, recordedMs, nowMs } = failed;
  const endsRun =
    record.submission !== before?.submission || (record.jobState !== "active" && record.jobState !== before?.jobState);
  const isStopping = before?.jobState === "stopping" || before?.jobState === "draining";
  switch (code) {
    case "CANCELED":
      if (endsRun)
        return incidents.isLeftUndone(recordedMs, nowMs, kind === "rescale" ? SLOTS_MS : 0)
          ? "the run has lasted long enough for it"
          : undefined;
      if (kind === "checkpoint" && (incidents.wasRestarted(recordedMs) || isStopping)) return undefined;
      return "the run goes on";
    case "OPERATION_CONFLICT":
      return conflictUnjustified(failed);
    case "CHECKPOINT_DECLINED":
    case "CHECKPOINT_EXPIRED":
      if (incidents.checkpointFailed(recordedMs, nowMs) || incidents.hasInputEnded()) return undefined;
      if (kind === "rescale") return "no checkpoint failed by itself: a restart is no reason (RO3)";
      return incidents.wasRestarted(recordedMs) || isStopping
        ? undefined
        : "neither was a checkpoint declined nor the job restarted";
    case "STATE_INCOMPATIBLE":
      return kind === "rescale" && incidents.hasInputEnded() ? undefined : "no input has ended";
    case "INPUT_NOT_FOUND":
      return kind === "dispose" ? undefined : "it needs no input";
    case "STORAGE_UNAVAILABLE":
    case "STORAGE_FULL":
    case "STORAGE_CONFLICT":
      return incidents.hasStoreFaults ? undefined : "the store is well";
    default:
      return "nothing in this world fails like that";
  }
}

function conflictUnjustified({
  kind,
  request,
  before,
  incidents,
  recordedMs,
  isResumed,
}: FailedOperation): string | undefined {
  if (kind === "dispose") return undefined; // somebody needs it
  if (request.kind !== "rescale") return "only a rescale or a disposal is in conflict with something";
  if (before?.jobState !== "active") return undefined;
  const bounds = Object.values(request.requirements).map(({ parallelism }) => parallelism);
  if (bounds.some(({ lowerBound, upperBound }) => lowerBound < 1 || lowerBound > upperBound)) return undefined;
  if (incidents.hadFewSlots(recordedMs, isResumed)) return undefined;
  return bounds.every(({ lowerBound }) => lowerBound <= incidents.slotCount) ? "there are slots enough" : undefined;
}
