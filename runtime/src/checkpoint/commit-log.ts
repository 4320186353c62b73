// The commit log over an object store: one primitive, create-if-absent; the highest record is the only truth.
//
// Invariants: CL1, CL4, CL6, CL8, CL12 of types.ts, and
//   CO1. A slot that may hold our record is never abandoned: `append` goes on until it knows whether it does.
//   CO2. One append at a time; a change is computed from the record it follows.
//   CO3. After FENCED every further call is FENCED.
//
// Not here: what a checkpoint is (coordinator.ts), what a second start decides (start.ts).

import { assert, Failure, faultPoint, planted } from "@sluice/kit";
import type { Clock, Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import type { CheckpointId, Epoch } from "../model/index.ts";
import { commitPath, commitSeq, commitsDirectory, readCommitRecord, writeCommitRecord } from "./commit-record.ts";
import { allSettled } from "./operations.ts";
import { pinnedForStart } from "./pins.ts";
import { claimedJobState, condemnedClaims, decideStart, isEnded } from "./start.ts";
import { retryStorage, StorageBackoff, storageFailure } from "./storage-retry.ts";
import { LINEAGES_MAX } from "./types.ts";
import type { CommitRecord, RecordedClaim, StartDecision, StartRequest } from "./types.ts";

/** Ids that one claim or renewal reserves (P0, P1). */
export const ID_BLOCK_COUNT = 64;
/** Renew the block with the next append when fewer are left, so that a trigger seldom waits for the store. */
const ID_LOW_WATER_COUNT = 16;
export const TRIM_KEEP_COUNT = 1_000;
export const TRIM_KEEP_MS = 7 * 24 * 3_600_000;
const SLOT_HOPS_MAX = 1_000;

export interface CommitLogEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly rng: Rng;
  readonly log?: Log;
}

/** What an append changes; everything else is carried over; `override` only as {@link standingOverride} says. */
export type CommitChange = Partial<
  Pick<
    CommitRecord,
    | "closed"
    | "jobState"
    | "head"
    | "origin"
    | "claim"
    | "condemnedClaims"
    | "retained"
    | "condemned"
    | "condemnedObjects"
    | "pins"
    | "ops"
    | "override"
    | "rescale"
    | "planDigest"
  >
>;

export type AppendOutcome =
  | { readonly type: "appended"; readonly record: CommitRecord }
  /** Certainly not written: the caller may give the checkpoint up. */
  | { readonly type: "failed"; readonly failure: Failure };

export interface ClaimResult {
  readonly log: CommitLog;
  readonly decision: Exclude<StartDecision, { readonly type: "refuse" }>;
  /** The highest record before the claim. */
  readonly previous: CommitRecord | undefined;
}

type Slot =
  | { readonly type: "mine" }
  | { readonly type: "other"; readonly record: CommitRecord }
  | { readonly type: "failed"; readonly failure: Failure };

/** Record `seq`; undefined when it was trimmed, or never written. */
export async function readCommit(
  store: ObjectStore,
  jobDir: string,
  seq: number,
  signal?: AbortSignal,
): Promise<CommitRecord | undefined> {
  return seq < 1 ? undefined : await readSlot(store, jobDir, seq, signal);
}

/** The highest record, or undefined when the store says there is none. Failure SNAPSHOT_DAMAGED names a record that cannot be read. */
export async function readCommitHead(
  store: ObjectStore,
  jobDir: string,
  signal?: AbortSignal,
): Promise<CommitRecord | undefined> {
  const objects = await store.list(commitsDirectory(jobDir), signal);
  let seqMax = -1;
  for (const object of objects) seqMax = Math.max(seqMax, commitSeq(jobDir, object.path) ?? -1);
  return seqMax < 0 ? undefined : readSlot(store, jobDir, seqMax, signal);
}

async function readSlot(
  store: ObjectStore,
  jobDir: string,
  seq: number,
  signal?: AbortSignal,
): Promise<CommitRecord | undefined> {
  const path = commitPath(jobDir, seq);
  const bytes = await store.get(path, signal);
  if (bytes === undefined) return undefined;
  const content = readCommitRecord(bytes);
  switch (content.type) {
    case "ok":
      if (content.record.seq === seq) return content.record;
      throw damagedRecord(store, path, `it holds record ${content.record.seq}`);
    case "unsupported":
      throw new Failure("FORMAT_UNSUPPORTED", {
        retry: "never",
        message: `${store.uri}/${path} has format version ${content.version}; this Sluice reads version 0`,
        remedy: "run a newer Sluice",
      });
    case "damaged":
      throw damagedRecord(store, path, content.reason);
  }
}

function damagedRecord(store: ObjectStore, path: string, reason: string): Failure {
  return new Failure("SNAPSHOT_DAMAGED", {
    retry: "never",
    message: `commit record ${store.uri}/${path} is damaged: ${reason}`,
    remedy:
      "restore the object from a backup of the store; going on without it could repeat published output. " +
      "To give the job's history up, start with --new-lineage under another name",
  });
}

export class CommitLog {
  readonly jobDir: string;
  readonly epoch: Epoch;
  readonly #store: ObjectStore;
  readonly #env: CommitLogEnv;
  #head: CommitRecord;
  #idNext: number;
  #idEnd: number;
  /** False for who only looks after the log: ids belong to the JobManager of the epoch. */
  readonly #givesIds: boolean;
  #fenced: Failure | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #life = new AbortController();

  private constructor(options: {
    readonly store: ObjectStore;
    readonly jobDir: string;
    readonly env: CommitLogEnv;
    readonly head: CommitRecord;
    readonly idNext: number;
    readonly givesIds: boolean;
  }) {
    this.#store = options.store;
    this.jobDir = options.jobDir;
    this.#env = options.env;
    this.#head = options.head;
    this.epoch = options.head.epoch;
    this.#idNext = options.idNext;
    this.#idEnd = options.head.idHigh;
    this.#givesIds = options.givesIds;
  }

  /**
   * P0: decides what the start means (start.ts) and appends epoch+1 with a block of ids. Storage failures are retried until `signal`.
   * Rejects with the refusal of the table, with SNAPSHOT_DAMAGED, or with the last storage failure.
   */
  static async claim(options: {
    readonly store: ObjectStore;
    readonly jobDir: string;
    readonly env: CommitLogEnv;
    readonly request: StartRequest;
    readonly planDigest: string;
    /** Rejects when a new lineage cannot start from this checkpoint: nothing is written then, the old lineage stays the head. */
    readonly takeOrigin?: (path: string) => Promise<RecordedClaim | null>;
    readonly signal: AbortSignal;
  }): Promise<ClaimResult> {
    const { store, jobDir, env, request, signal } = options;
    const nonce = drawNonce(env.rng);
    for (let hops = 0; hops < SLOT_HOPS_MAX; hops += 1) {
      const previous = await retryStorage(env, signal, "commit-log-read", () => readCommitHead(store, jobDir, signal));
      const decision = decideStart(previous, request);
      if (decision.type === "refuse") throw decision.failure;
      const origin = decision.type === "continue" ? null : decision.restoreFrom;
      const claim = origin === null ? null : ((await options.takeOrigin?.(origin)) ?? null);
      const reusesIds = planted("ids-reused-after-failover") && previous !== undefined;
      const idLow = reusesIds ? (previous.head?.id ?? 0) : (previous?.idHigh ?? 0);
      const record: CommitRecord = {
        ...claimContent(previous, decision, request, claim),
        formatVersion: 0,
        seq: (previous?.seq ?? 0) + 1,
        epoch: ((previous?.epoch ?? 0) + 1) as Epoch,
        nonce,
        uid: request.uid,
        submission: request.lineage,
        ...ownership(previous, request),
        closed: false,
        jobState: claimedJobState(previous, decision, request),
        idHigh: reusesIds ? Math.max(previous.idHigh, idLow + ID_BLOCK_COUNT) : idLow + ID_BLOCK_COUNT,
        planDigest: options.planDigest,
        writtenMs: env.clock.wallMs(),
      };
      faultPoint("P0-before-append");
      const slot = await placeRecord(store, jobDir, env, record, signal, undefined);
      if (slot.type === "failed") throw slot.failure;
      if (slot.type === "mine") {
        faultPoint("P0-after-append");
        const log = new CommitLog({ store, jobDir, env, head: record, idNext: idLow + 1, givesIds: true });
        return { log, decision, previous };
      }
      // Somebody else appended first: look again from the beginning, the decision may be another one now.
    }
    throw new Failure("STORAGE_CONFLICT", {
      retry: "backoff",
      message: `${store.uri}/${jobDir}/commits: another JobManager won every one of ${SLOT_HOPS_MAX} attempts to claim the log`,
      remedy: "two processes run this job; stop one of them",
    });
  }

  /**
   * Joins a log beside whoever runs the job, to pin and to condemn: appends carry the epoch of the head, so they fence nobody, and the
   * JobManager of that epoch follows them. Undefined when there is no log.
   */
  static async attach(options: {
    readonly store: ObjectStore;
    readonly jobDir: string;
    readonly env: CommitLogEnv;
    readonly signal: AbortSignal;
  }): Promise<CommitLog | undefined> {
    const { store, jobDir, env, signal } = options;
    const head = await retryStorage(env, signal, "commit-log-read", () => readCommitHead(store, jobDir, signal));
    if (head === undefined) return undefined;
    return new CommitLog({ store, jobDir, env, head, idNext: head.idHigh + 1, givesIds: false });
  }

  /** The newest record known to this writer. */
  get head(): CommitRecord {
    return this.#head;
  }

  /** True once a newer epoch or a closed lineage was met (CO3). */
  get isFenced(): boolean {
    return this.#fenced !== undefined;
  }

  /** An id that nobody else ever gets (CL4); undefined: reserve a block first. */
  takeId(): CheckpointId | undefined {
    if (this.#idNext > this.#idEnd) return undefined;
    const id = this.#idNext as CheckpointId;
    this.#idNext += 1;
    return id;
  }

  /** The id that `takeId` would give out. */
  peekId(): CheckpointId | undefined {
    return this.#idNext > this.#idEnd ? undefined : (this.#idNext as CheckpointId);
  }

  /** Appends a record that only extends the block of ids. */
  reserveIds(signal: AbortSignal): Promise<AppendOutcome> {
    return this.append(() => ({}), signal);
  }

  /**
   * Appends one record after all earlier appends of this writer. `signal` asks to give up: honoured only while it is certain that
   * nothing was written (CO1). Rejects with FENCED, with SNAPSHOT_DAMAGED, or with CANCELED after `dispose`.
   */
  append(change: (previous: CommitRecord) => CommitChange, signal: AbortSignal): Promise<AppendOutcome> {
    const result = this.#tail.then(() => this.#append(change, signal));
    this.#tail = result.catch(() => undefined); // the caller gets the rejection; the next append must still run
    return result;
  }

  /**
   * Asks the store whether somebody else has appended. For a JobManager that has nothing to commit (it waits for slots): it would
   * never learn otherwise that it is fenced. Rejects with FENCED, or with a storage failure, which proves nothing.
   */
  verifyOwnership(signal: AbortSignal): Promise<void> {
    const verify = async (): Promise<void> => {
      if (this.#fenced !== undefined) throw this.#fenced;
      const other = await readSlot(this.#store, this.jobDir, this.#head.seq + 1, signal);
      if (other !== undefined) this.#meet(other);
    };
    const result = this.#tail.then(verify);
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Waits until no append is under way or in doubt. */
  async settled(): Promise<CommitRecord> {
    await this.#tail;
    if (this.#fenced !== undefined) throw this.#fenced;
    return this.#head;
  }

  /** Ends appends that are waiting; nothing is appended afterwards. */
  dispose(): void {
    this.#life.abort();
  }

  async #append(change: (previous: CommitRecord) => CommitChange, signal: AbortSignal): Promise<AppendOutcome> {
    const nonce = drawNonce(this.#env.rng);
    for (let hops = 0; hops < SLOT_HOPS_MAX; hops += 1) {
      if (this.#fenced !== undefined) throw this.#fenced;
      const previous = this.#head;
      const left = this.#idEnd - this.#idNext + 1;
      const changed = change(previous);
      const newHead = changed.head === undefined ? previous.head : changed.head;
      const record: CommitRecord = {
        ...previous,
        override: standingOverride(previous, newHead),
        ...changed,
        seq: previous.seq + 1,
        epoch: this.epoch,
        nonce,
        idHigh: this.#givesIds && left < ID_LOW_WATER_COUNT ? previous.idHigh + ID_BLOCK_COUNT : previous.idHigh,
        writtenMs: this.#env.clock.wallMs(),
      };
      this.#checkStep(previous, record);
      const reserves = record.idHigh > previous.idHigh;
      if (reserves) faultPoint("P1-before-append");
      const slot = await placeRecord(this.#store, this.jobDir, this.#env, record, this.#life.signal, signal);
      if (slot.type === "failed") return { type: "failed", failure: slot.failure };
      if (slot.type === "mine") {
        if (reserves) faultPoint("P1-after-append");
        this.#accept(record);
        return { type: "appended", record };
      }
      this.#meet(slot.record);
    }
    throw new Failure("STORAGE_CONFLICT", {
      retry: "backoff",
      message: `${this.#store.uri}/${this.jobDir}/commits: ${SLOT_HOPS_MAX} slots in a row were taken`,
    });
  }

  /** The slot holds another record: ours of before (then follow it), or the proof that we are fenced. */
  #meet(other: CommitRecord): void {
    if (!planted("epoch-not-checked") && (other.epoch > this.epoch || other.closed)) {
      this.#fenced = new Failure("FENCED", {
        retry: "never",
        message:
          `epoch ${this.epoch} may no longer commit: record ${other.seq} is of epoch ${other.epoch}` +
          (other.closed ? ` and closes lineage ${other.lineage}` : ""),
        remedy: "a newer JobManager runs this job; this one ends by itself",
      });
      throw this.#fenced;
    }
    assert(other.epoch === this.epoch || planted("epoch-not-checked"), "CL1: epochs never decrease along the log");
    this.#accept(other);
  }

  #accept(record: CommitRecord): void {
    assert(record.seq === this.#head.seq + 1, "CL1: seq grows by one");
    this.#head = record;
    if (record.epoch === this.epoch) this.#idEnd = Math.max(this.#idEnd, record.idHigh);
  }

  #checkStep(previous: CommitRecord, record: CommitRecord): void {
    assert(!previous.closed || record.closed, "CL12: a closed lineage stays closed");
    assert(record.idHigh >= previous.idHigh, "CL4: ids given out never decrease");
    const from = previous.head?.id ?? 0;
    const to = record.head?.id ?? 0;
    assert(
      to >= from ||
        record.override?.type === "head-regression" ||
        (to === 0 && record.override?.type === "state-deleted") ||
        planted("epoch-not-checked") ||
        planted("ids-reused-after-failover"),
      "CL6: the head regresses only by an override",
    );
  }

  /**
   * Deletes records below the newest {@link TRIM_KEEP_COUNT} that are older than {@link TRIM_KEEP_MS} by the store's own clock,
   * ascending, at most `countMax` of them. Returns how many.
   */
  async trim(countMax: number, signal: AbortSignal): Promise<number> {
    const objects = await this.#store.list(commitsDirectory(this.jobDir), signal);
    const newestMs = objects.at(-1)?.modifiedMs ?? 0;
    let count = 0;
    for (const object of objects) {
      const seq = commitSeq(this.jobDir, object.path);
      if (seq === undefined) continue;
      if (this.#fenced !== undefined || count === countMax) break;
      if (seq > this.#head.seq - TRIM_KEEP_COUNT || object.modifiedMs > newestMs - TRIM_KEEP_MS) break;
      await this.#store.remove(object.path, signal);
      count += 1;
    }
    return count;
  }
}

/**
 * Closes the log for good and fences whoever runs the job (CL12): the record of a deleted job. The record that stands then; undefined
 * when there is no log.
 */
export async function closeCommitLog(options: {
  readonly store: ObjectStore;
  readonly jobDir: string;
  readonly env: CommitLogEnv;
  readonly signal: AbortSignal;
}): Promise<CommitRecord | undefined> {
  const { store, jobDir, env, signal } = options;
  const nonce = drawNonce(env.rng);
  for (;;) {
    const previous = await retryStorage(env, signal, "commit-log-read", () => readCommitHead(store, jobDir, signal));
    if (previous === undefined || previous.closed) return previous;
    const record: CommitRecord = {
      ...previous,
      seq: previous.seq + 1,
      epoch: (previous.epoch + 1) as Epoch,
      nonce,
      closed: true,
      jobState: isEnded(previous.jobState) ? previous.jobState : "cancelled",
      ops: allSettled(previous.ops, "the job was closed"),
      writtenMs: env.clock.wallMs(),
    };
    const slot = await placeRecord(store, jobDir, env, record, signal, undefined);
    if (slot.type === "failed") throw slot.failure;
    if (slot.type === "mine") return record;
  }
}

/** SD4, SD5: whose start this is, and whose log it was. What nobody asked for is left out, as in records of before. */
function ownership(
  previous: CommitRecord | undefined,
  { uid, order }: Pick<StartRequest, "uid" | "order">,
): Pick<CommitRecord, "order" | "pastUids"> {
  const past = [
    ...(previous?.pastUids ?? []),
    ...(previous === undefined || previous.uid === uid ? [] : [previous.uid]),
  ];
  const known = order ?? (previous?.uid === uid ? previous.order : undefined);
  return {
    ...(known === undefined ? {} : { order: known }),
    ...(past.length === 0 ? {} : { pastUids: past.slice(-LINEAGES_MAX) }),
  };
}

/** Holder of the pins by which a lineage that was replaced keeps its checkpoints. */
export function lineageHolder(lineage: string): string {
  return `lineage:${lineage}`;
}

/** What the claiming record takes over from the one before. */
function claimContent(
  previous: CommitRecord | undefined,
  decision: StartDecision,
  request: StartRequest,
  claim: RecordedClaim | null,
): Pick<
  CommitRecord,
  | "lineage"
  | "pastLineages"
  | "head"
  | "origin"
  | "claim"
  | "condemnedClaims"
  | "retained"
  | "condemned"
  | "pins"
  | "ops"
  | "override"
  | "rescale"
> {
  if (decision.type === "continue") {
    assert(previous !== undefined, "only an existing log is continued");
    const { lineage, pastLineages = [], head, origin, retained, condemned, pins } = previous;
    // OP4: whoever starts the job again does not want it cancelled by what somebody asked of the run before.
    const isSameRun = previous.submission === request.lineage;
    const ops = isSameRun ? previous.ops : allSettled(previous.ops, "the run that it was asked of has ended");
    const rescale = isSameRun ? (previous.rescale ?? null) : null; // another start says its own parallelism
    const override = standingOverride(previous, head);
    const claims = { claim: previous.claim ?? null, condemnedClaims: previous.condemnedClaims ?? [] };
    const kept = request.pinRestored === true ? pinnedForStart(previous, request.lineage) : { pins, condemned };
    return { lineage, pastLineages, head, origin, ...claims, retained, ...kept, ops, override, rescale };
  }
  assert(decision.type !== "refuse", "a refused start claims nothing");
  const empty = { head: null, origin: decision.restoreFrom, claim, retained: [], condemned: [], ops: [] };
  if (previous === undefined) return { ...empty, lineage: request.lineage, pins: [], override: null };
  // The old lineage keeps its checkpoints: nobody deletes what a pin holds.
  const pins = [
    ...previous.pins,
    ...previous.retained.map((ref) => ({ ref, holder: lineageHolder(previous.lineage), expiresAtMs: null })),
  ];
  return {
    ...empty,
    lineage: request.lineage,
    pastLineages: [...(previous.pastLineages ?? []), previous.lineage].slice(-LINEAGES_MAX),
    condemned: previous.condemned,
    condemnedClaims: condemnedClaims(previous).slice(-LINEAGES_MAX),
    pins,
    override: { type: "new-lineage", previousLineage: previous.lineage, restoredFrom: decision.restoreFrom },
  };
}

/**
 * A regression stands as long as the head is the one it went back to: whoever restores that head, also after a failover, must know
 * which output to hide. A deletion stands as long as there is no head. A new lineage belongs to its record alone.
 */
function standingOverride(previous: CommitRecord, head: CommitRecord["head"]): CommitRecord["override"] {
  const { override } = previous;
  if (override?.type === "state-deleted") return head === null ? override : null;
  return override?.type === "head-regression" && head?.id === override.toId ? override : null;
}

function drawNonce(rng: Rng): string {
  let text = "";
  for (let i = 0; i < 4; i += 1) text += rng.u32().toString(16).padStart(8, "0");
  return text;
}

/**
 * Creates the record's slot, whatever the store answers, until the outcome is certain (CO1). `life` ends everything;
 * `giveUp` is honoured only while certainly nothing was written.
 */
async function placeRecord(
  store: ObjectStore,
  jobDir: string,
  env: CommitLogEnv,
  record: CommitRecord,
  life: AbortSignal,
  giveUp: AbortSignal | undefined,
): Promise<Slot> {
  const path = commitPath(jobDir, record.seq);
  const bytes = writeCommitRecord(record);
  const backoff = new StorageBackoff(env);
  let isInDoubt = false;
  let isTaken = false;
  for (;;) {
    let failure: Failure;
    try {
      if (!isTaken) {
        const outcome = await store.putIfAbsent(path, bytes);
        if (outcome === "created") return { type: "mine" };
        isInDoubt = true; // `exists` may be our own earlier success, also one that the client library retried by itself
        isTaken = outcome === "exists";
      }
      const found = await readSlot(store, jobDir, record.seq);
      if (found !== undefined)
        return found.nonce === record.nonce ? { type: "mine" } : { type: "other", record: found };
      isTaken = false; // unknown outcome, not there (yet): the same bytes again, so that a late write can only be ours
      failure = new Failure("STORAGE_UNAVAILABLE", {
        retry: "backoff",
        message: `${store.uri}/${path}: outcome unknown`,
      });
    } catch (thrown) {
      failure = storageFailure(thrown, `${store.uri}/${path}`);
      if (failure.code === "SNAPSHOT_DAMAGED" || failure.code === "FORMAT_UNSUPPORTED") throw failure;
      if (failure.retry === "never" && !isInDoubt) return { type: "failed", failure };
    }
    if (giveUp?.aborted === true && !isInDoubt) return { type: "failed", failure };
    const slept = await backoff.sleep(
      "commit-log-append",
      giveUp !== undefined && !isInDoubt ? [life, giveUp] : [life],
    );
    if (!slept && life.aborted) {
      throw new Failure("CANCELED", {
        retry: "never",
        message: `append of record ${record.seq} was ended`,
        cause: failure,
      });
    }
    if (!slept && !isInDoubt) return { type: "failed", failure };
  }
}
