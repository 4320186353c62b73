// The checkpoint coordinator's decisions, pure: step(state, event, context) -> [state, effects].
//
// Invariants: CL5, CL7, CL8, CL9 of types.ts, and
//   C1. One checkpoint at a time is between its last ack and its commit; ids commit in ascending order.
//   C2. A completed checkpoint subsumes all lower pending ones (Flink: CompletedCheckpointStore / dropSubsumedCheckpoints).
//   C3. Once its commit is under way a checkpoint is aborted only if the log says that it was certainly not written.
//   C4. Late, foreign and repeated messages change nothing.
//   C5. Min pause is measured from completion and implies one checkpoint at a time; only periodic checkpoints wait for it.
//   C6. Nothing is triggered before every subtask is running or finished.
//   C7. Failures are counted consecutively: async failures of tasks, storage, expiry. A completed checkpoint resets the count.
//       Savepoints do not count (Flink: CheckpointFailureManager).
//   C8. Savepoints are forced: they go before checkpoints and wait for neither concurrency nor pause; they hold up no checkpoint,
//       and no completed checkpoint subsumes one. At most SAVEPOINTS_PENDING_MAX are under way, the others queue in order.
//   C9. An intermediate savepoint ends with its `_metadata`: it has no record, is never the head, and nobody is notified of it (CL5).
//   C10. A stop is the last thing that is triggered in an attempt: its savepoint becomes the head by a record, only then do sinks hear
//       of it (FLINK-26783). If it fails, the attempt is over, because its sources have stopped.
//   C11. What is asked for while no attempt runs waits for the next one: only an attempt that ends cuts off what was asked of it.
//
// Not here: the words (coordinator-state.ts), the record of a commit (commit-change.ts), requests that wait (savepoint-requests.ts);
// clocks, storage, messages (coordinator-shell.ts); the log (commit-log.ts).

import { assert, Failure, planted, unreachable } from "@sluice/kit";
import type {
  AttemptNumber,
  Barrier,
  CheckpointAck,
  CheckpointId,
  CheckpointMetadata,
  Epoch,
  SubtaskId,
} from "../model/index.ts";
import {
  CLEANING_COUNT_MAX,
  FINAL_RETRY_DELAY_MS,
  SAVEPOINTS_PENDING_MAX,
  added,
  givenUp,
  removed,
  describeSubtask,
  subtaskKeyOf,
  subtasksOf,
  withPending,
  withoutPending,
} from "./coordinator-state.ts";
import type {
  CoordinatorEffect,
  CoordinatorEvent,
  CoordinatorState,
  PendingCheckpoint,
  SavepointRequest,
  Step,
  StepContext,
} from "./coordinator-state.ts";
import { savepointFailed, savepointFailure, savepointOverdue } from "./savepoint-requests.ts";
import type { CheckpointTrigger, CommitRecord } from "./types.ts";

/** Pure: no clock, no I/O, no await. The shell runs the effects in order. */
export function step(state: CoordinatorState, event: CoordinatorEvent, context: StepContext): Step {
  if (state.phase === "stopped") return [state, []]; // CL8
  const [next, effects] = apply(state, event, context);
  const [after, more] = maybeTrigger(...maybeComplete(next, []), context);
  return [after, [...effects, ...more]];
}

function apply(state: CoordinatorState, event: CoordinatorEvent, context: StepContext): Step {
  switch (event.type) {
    case "attemptStarted": {
      assert(
        state.pending.every((p) => p.progress === "committing"),
        "a new attempt starts after suspend",
      );
      const { intervalMs } = state.config;
      const started: CoordinatorState = {
        ...state,
        phase: "running",
        attempt: event.attempt,
        vertices: event.vertices,
        running: new Set(),
        finished: new Set(),
        ended: new Set(),
        isFinalDone: event.isStopping,
        finalDueMs: 0,
        consecutiveFailureCount: 0,
        dueMs: intervalMs === null ? Infinity : context.nowMs + event.initialDelayMs,
      };
      return [started, []];
    }
    case "taskRunning":
      return [{ ...state, running: added(state.running, subtaskKeyOf(event.subtask)) }, []];
    case "taskFinished": {
      const key = subtaskKeyOf(event.subtask);
      let next: CoordinatorState = {
        ...state,
        running: removed(state.running, key),
        finished: added(state.finished, key),
      };
      const effects: CoordinatorEffect[] = [];
      for (const pending of state.pending) {
        if (pending.progress !== "acks" || !pending.waitingFor.has(key)) continue;
        const [after, more] = abort(
          next,
          pending,
          { reason: `${key} finished before it took part`, counts: false },
          context,
        );
        next = after;
        effects.push(...more);
      }
      return [next, effects];
    }
    case "sourceEnded":
      return [{ ...state, ended: added(state.ended, subtaskKeyOf(event.subtask)) }, []];
    case "tick":
      return [state, []];
    case "triggerRequested":
      return [{ ...state, isTriggerRequested: true }, []];
    case "savepointRequested":
      return [{ ...state, savepointRequests: [...state.savepointRequests, event.request] }, []];
    case "savepointOverdue":
      return savepointOverdue(state, event.token);
    case "idsReserved":
      return [{ ...state, isReservingIds: false }, []];
    case "idsNotReserved": {
      // Without ids there is no checkpoint: that counts like one that failed (C7), and is tried again after a while.
      const againMs = context.nowMs + FINAL_RETRY_DELAY_MS;
      const reason = "the store took no record that reserves checkpoint ids";
      const refused = state.savepointRequests.map((request): CoordinatorEffect => {
        return { type: "savepointFailed", request, id: null, failure: savepointFailure(reason, undefined) };
      });
      const next: CoordinatorState = {
        ...state,
        isReservingIds: false,
        isTriggerRequested: false,
        savepointRequests: [],
        dueMs: againMs,
        finalDueMs: againMs,
      };
      const [counted, effects] = count(next, reason, undefined, context);
      return [counted, [...refused, ...effects]];
    }
    case "acked":
      return acked(state, event.ack);
    case "declined": {
      const { decline } = event;
      const pending = findPending(state, decline);
      if (pending === undefined || pending.progress !== "acks") return [state, []]; // C4
      const counts = decline.reason === "async-failure" || decline.reason === "storage"; // C7
      const reason = `${describeSubtask(state, decline.subtask)} declined (${decline.reason}): ${decline.message}`;
      return abort(state, pending, { reason, counts }, context);
    }
    case "timedOut": {
      const pending = state.pending.find((p) => p.id === event.id);
      if (pending === undefined) return [state, []];
      const reason = `checkpoint ${pending.id} expired after ${state.config.timeoutMs} ms`;
      if (pending.progress === "committing") return overdue(state, pending, reason, context); // C3
      const [next, effects] = abort(state, pending, { reason, counts: true }, context);
      return [
        next,
        pending.progress === "metadata" ? [{ type: "cancelMetadata", id: pending.id }, ...effects] : effects,
      ];
    }
    case "metadataWritten": {
      const pending = state.pending.find((p) => p.id === event.ref.id && p.progress === "metadata");
      if (pending === undefined) return [state, []];
      const { savepoint } = pending;
      if (savepoint?.stops === "no" && !planted("savepoint-becomes-head")) {
        const done: CoordinatorEffect = { type: "completed", id: pending.id, isFinal: false, savepoint };
        return [{ ...withoutPending(state, pending.id), lastCompletionMs: context.nowMs }, [done]]; // C9
      }
      const next = withPending(state, { ...pending, progress: "committing" });
      const { abandoned, deleted } = state;
      const effects: CoordinatorEffect[] = [{ type: "commit", ref: event.ref, abandoned, deleted, stop: savepoint }];
      const isStop = savepoint !== null && savepoint.stops !== "no";
      if (planted("notify-before-commit-record") || (isStop && planted("stop-notifies-before-record")))
        effects.unshift({ type: "notifyComplete", id: pending.id });
      return [next, effects];
    }
    case "metadataFailed": {
      const pending = state.pending.find((p) => p.id === event.id && p.progress === "metadata");
      if (pending === undefined) return [state, []];
      return abort(state, pending, { reason: event.failure.message, counts: true, cause: event.failure }, context);
    }
    case "committed":
      return committed(state, event.id, event.record, context);
    case "commitFailed": {
      const pending = state.pending.find((p) => p.id === event.id && p.progress === "committing");
      if (pending === undefined) return [state, []];
      const counts = pending.overdueCount === 0; // an overdue one has been counted already
      return abort(state, pending, { reason: event.failure.message, counts, cause: event.failure }, context);
    }
    case "orphansFound": {
      const known = new Set<CheckpointId>([
        ...state.abandoned,
        ...state.deletable,
        ...state.cleaning,
        ...state.deleted,
      ]);
      for (const pending of state.pending) known.add(pending.id);
      return [{ ...state, abandoned: [...state.abandoned, ...event.ids.filter((id) => !known.has(id))] }, []];
    }
    case "cleaned": {
      const cleaning = state.cleaning.filter((id) => !event.ids.includes(id));
      return [{ ...state, cleaning, deleted: [...state.deleted, ...event.ids] }, []];
    }
    case "notCleaned": {
      const cleaning = state.cleaning.filter((id) => !event.ids.includes(id));
      return [{ ...state, cleaning, deletable: [...state.deletable, ...event.ids] }, []];
    }
    case "suspended": {
      const isTriggerRequested = state.phase === "suspended" && state.isTriggerRequested; // C11
      let next: CoordinatorState = { ...state, phase: "suspended", isTriggerRequested };
      const effects: CoordinatorEffect[] = [];
      for (const pending of state.pending) {
        if (pending.progress === "committing") continue; // C3: its outcome decides what a restart restores
        if (pending.progress === "metadata") effects.push({ type: "cancelMetadata", id: pending.id });
        const reason = "the job is being stopped or restarted";
        effects.push(abortEffect(next, pending, reason, false), ...savepointFailed(pending, reason));
        next = givenUp(next, pending);
      }
      return [next, effects];
    }
    case "stopped":
      return [{ ...state, phase: "stopped", pending: [] }, []];
    default:
      return unreachable(event);
  }
}

function findPending(
  state: CoordinatorState,
  message: { readonly checkpointId: CheckpointId; readonly epoch: Epoch; readonly attempt: AttemptNumber },
): PendingCheckpoint | undefined {
  if (message.epoch !== state.epoch || message.attempt !== state.attempt || state.phase !== "running") return undefined; // CL9
  return state.pending.find((p) => p.id === message.checkpointId);
}

function acked(state: CoordinatorState, ack: CheckpointAck): Step {
  const key = subtaskKeyOf(ack.subtask);
  const pending = planted("ack-of-another-checkpoint")
    ? state.pending.find((p) => p.waitingFor.has(key) && ack.epoch === state.epoch && ack.attempt === state.attempt)
    : findPending(state, ack);
  if (pending === undefined || pending.progress !== "acks" || !pending.waitingFor.has(key)) return [state, []]; // C4
  const waitingFor = removed(pending.waitingFor, key);
  const acks = new Map(pending.acks).set(key, ack);
  const isEarly = planted("metadata-before-last-ack") && waitingFor.size === 1 && acks.size > 0;
  const progress = waitingFor.size === 0 || isEarly ? "acked" : "acks";
  const next = withPending(state, { ...pending, waitingFor, acks, progress });
  return [next, [{ type: "ackAccepted", id: pending.id, ack }]];
}

/** C1: starts the completion of the lowest fully acknowledged checkpoint when no other one is in completion. */
function maybeComplete(state: CoordinatorState, effects: readonly CoordinatorEffect[]): Step {
  const intermediate = state.pending.find((p) => p.progress === "acked" && p.savepoint?.stops === "no");
  if (intermediate !== undefined) return maybeComplete(...complete(state, intermediate, effects)); // C8
  const ours = state.pending.filter((p) => p.savepoint?.stops !== "no");
  if (ours.some((p) => p.progress === "metadata" || p.progress === "committing")) return [state, effects];
  const ready = ours.find((p) => p.progress === "acked");
  return ready === undefined ? [state, effects] : complete(state, ready, effects);
}

function complete(state: CoordinatorState, ready: PendingCheckpoint, effects: readonly CoordinatorEffect[]): Step {
  const next = withPending(state, { ...ready, progress: "metadata" });
  const location = ready.savepoint?.location ?? null;
  return [next, [...effects, { type: "writeMetadata", metadata: buildMetadata(state, ready), location }]];
}

function committed(state: CoordinatorState, id: CheckpointId, record: CommitRecord, context: StepContext): Step {
  assert(record.head?.id === id, "CL5: the commit record has this checkpoint as its head");
  const pending = state.pending.find((p) => p.id === id);
  assert(pending !== undefined, "a checkpoint stays pending until its commit is certain");
  const effects: CoordinatorEffect[] = [{ type: "notifyComplete", id }];
  let next = withoutPending(state, id);
  for (const older of state.pending) {
    if (older.id >= id || (older.savepoint !== null && pending.savepoint === null)) continue; // C8
    const reason = pending.savepoint === null ? `subsumed by checkpoint ${id}` : `the job stops with savepoint ${id}`;
    const code = pending.savepoint === null ? "CHECKPOINT_DECLINED" : "CANCELED"; // by the end of the job
    effects.push({ ...abortEffect(next, older, reason, true), latestCompletedId: id, code });
    effects.push(...savepointFailed(older, reason));
    next = givenUp(next, older); // C2
  }
  effects.push({ type: "completed", id, isFinal: pending.isFinal, savepoint: pending.savepoint });
  // P6: what an earlier record of this epoch condemned; what this record condemned waits for the next one.
  const condemned = new Set(record.condemned);
  const due = state.deletable.filter((d) => condemned.has(d)).slice(0, CLEANING_COUNT_MAX - state.cleaning.length);
  const victims = [...due];
  if (planted("delete-retained-object") && record.retained.length > 1)
    victims.push(...record.retained.slice(0, 1).map((r) => r.id));
  if (victims.length > 0) effects.push({ type: "delete", ids: victims });
  next = {
    ...next,
    latestCompletedId: id,
    lastCompletionMs: context.nowMs,
    consecutiveFailureCount: 0,
    isFinalDone: state.isFinalDone || pending.isFinal,
    abandoned: next.abandoned.filter((a) => !condemned.has(a)),
    deleted: state.deleted.filter((d) => condemned.has(d)),
    cleaning: [...state.cleaning, ...due],
    deletable: record.condemned.filter(
      (c) => !due.includes(c) && !state.cleaning.includes(c) && !state.deleted.includes(c),
    ),
  };
  return [next, effects];
}

/** C3: the outcome of its commit is in doubt; the log goes on asking, the failure is counted once per timeout. */
function overdue(state: CoordinatorState, pending: PendingCheckpoint, reason: string, context: StepContext): Step {
  const next = withPending(state, { ...pending, overdueCount: pending.overdueCount + 1 });
  const [counted, effects] = pending.savepoint === null ? count(next, reason, undefined, context) : [next, []];
  return [
    counted,
    [
      { type: "giveUpCommit", id: pending.id },
      { type: "armTimeout", id: pending.id, delayMs: state.config.timeoutMs },
      ...effects,
    ],
  ];
}

function abort(
  state: CoordinatorState,
  pending: PendingCheckpoint,
  why: { readonly reason: string; readonly counts: boolean; readonly cause?: Failure },
  context: StepContext,
): Step {
  const effect = abortEffect(state, pending, why.reason, true);
  const without = givenUp(state, pending);
  if (pending.savepoint !== null) {
    const effects: CoordinatorEffect[] = [effect, ...savepointFailed(pending, why.reason, why.cause)];
    if (!pending.isFinal) return [without, effects];
    const failure = savepointFailure(why.reason, why.cause);
    return [{ ...without, isFinalDone: true }, [...effects, { type: "stopFailed", failure }]]; // C10
  }
  const next: CoordinatorState = {
    ...without,
    finalDueMs: pending.isFinal ? context.nowMs + FINAL_RETRY_DELAY_MS : without.finalDueMs,
  };
  if (!why.counts) return [next, [effect]];
  const [counted, more] = count(next, why.reason, why.cause, context);
  return [counted, [effect, ...more]];
}

function count(state: CoordinatorState, reason: string, cause: Failure | undefined, _context: StepContext): Step {
  const consecutiveFailureCount = state.consecutiveFailureCount + 1;
  const next = { ...state, consecutiveFailureCount };
  if (state.phase !== "running" || consecutiveFailureCount <= state.config.tolerableFailedCount) return [next, []];
  const failure = new Failure(cause?.code ?? "CHECKPOINT_EXPIRED", {
    retry: "backoff",
    message: `${consecutiveFailureCount} checkpoints in a row failed, ${state.config.tolerableFailedCount} are tolerated; the last: ${reason}`,
    remedy: "look at the storage and at backpressure; execution.checkpointing.tolerable-failed-checkpoints allows more",
    cause,
  });
  return [{ ...next, consecutiveFailureCount: 0 }, [{ type: "failJob", failure }]];
}

function abortEffect(
  state: CoordinatorState,
  pending: PendingCheckpoint,
  reason: string,
  notifies: boolean,
): Extract<CoordinatorEffect, { readonly type: "aborted" }> {
  const { latestCompletedId } = state;
  // What the end of its attempt gives up was cut off; a commit too, whatever the store said last (C3).
  const isCutOff = state.phase === "suspended" && !planted("rescale-given-up-by-restart");
  const code = isCutOff ? "CANCELED" : "CHECKPOINT_DECLINED";
  return { type: "aborted", id: pending.id, latestCompletedId, reason, code, notifies };
}

/** Starts a checkpoint if one is wanted and everything allows it (Flink: CheckpointRequestDecider); else arms the clock. */
function maybeTrigger(state: CoordinatorState, effects: readonly CoordinatorEffect[], context: StepContext): Step {
  const { config } = state;
  if (state.phase !== "running" || !isEverythingUp(state)) return [state, effects]; // C6
  if (state.pending.some((p) => p.isFinal) || state.isFinalDone) return [state, effects];
  const { nowMs, nextId } = context;
  const [request] = state.savepointRequests;
  if (request !== undefined && state.pending.filter((p) => p.savepoint !== null).length < SAVEPOINTS_PENDING_MAX) {
    if (nextId === undefined) return reserveIds(state, effects);
    const [next, more] = beginSavepoint(state, nextId, request, context); // C8
    return [next, [...effects, ...more]];
  }
  if (state.savepointRequests.some(({ stops }) => stops !== "no")) return [state, effects]; // C10: nothing new before it
  const wantsFinal = isAllInputEnded(state);
  if (wantsFinal && state.finalDueMs > nowMs)
    return [state, [...effects, { type: "armTick", delayMs: state.finalDueMs - nowMs }]];
  const isForced = wantsFinal || state.isTriggerRequested;
  if (!isForced && state.dueMs > nowMs) {
    return state.dueMs === Infinity
      ? [state, effects]
      : [state, [...effects, { type: "armTick", delayMs: state.dueMs - nowMs }]];
  }
  const concurrentMax = config.minPauseMs > 0 ? 1 : config.concurrentMax; // C5
  const checkpointCount = state.pending.filter((p) => p.savepoint === null).length;
  if (checkpointCount >= concurrentMax || state.cleaning.length >= CLEANING_COUNT_MAX) return [state, effects];
  const pauseEndMs = state.lastCompletionMs === null ? -Infinity : state.lastCompletionMs + config.minPauseMs;
  if (!isForced && pauseEndMs > nowMs) {
    return [{ ...state, dueMs: pauseEndMs }, [...effects, { type: "armTick", delayMs: pauseEndMs - nowMs }]];
  }
  if (nextId === undefined) return reserveIds(state, effects);
  const [next, more] = beginCheckpoint(state, nextId, wantsFinal, context);
  return [next, [...effects, ...more]];
}

function reserveIds(state: CoordinatorState, effects: readonly CoordinatorEffect[]): Step {
  if (state.isReservingIds) return [state, effects];
  return [{ ...state, isReservingIds: true }, [...effects, { type: "reserveIds" }]];
}

function beginCheckpoint(state: CoordinatorState, id: CheckpointId, isFinal: boolean, context: StepContext): Step {
  const { intervalMs } = state.config;
  const dueMs = intervalMs === null ? Infinity : context.nowMs + intervalMs;
  const due: CoordinatorState = { ...state, dueMs, isTriggerRequested: false };
  if (state.running.size === 0) return [due, []];
  const [next, effects] = begin(due, { id, isFinal, savepoint: null }, context);
  return [next, dueMs === Infinity ? effects : [...effects, { type: "armTick", delayMs: dueMs - context.nowMs }]];
}

function beginSavepoint(
  state: CoordinatorState,
  id: CheckpointId,
  request: SavepointRequest,
  context: StepContext,
): Step {
  const waiting: CoordinatorState = { ...state, savepointRequests: state.savepointRequests.slice(1) };
  if (state.running.size === 0) {
    const failure = savepointFailure("all tasks of the job have finished", undefined);
    return [waiting, [{ type: "savepointFailed", request, id: null, failure }]];
  }
  const [next, effects] = begin(waiting, { id, isFinal: request.stops !== "no", savepoint: request }, context);
  return [next, [...effects, { type: "armTick", delayMs: 0 }]]; // one trigger a step: others may be due
}

function begin(
  state: CoordinatorState,
  what: Pick<PendingCheckpoint, "id" | "isFinal" | "savepoint">,
  context: StepContext,
): Step {
  const { config, running } = state;
  const { id, savepoint } = what;
  assert(
    state.pending.every((p) => p.id < id),
    "CL4: ids grow",
  );
  const pending: PendingCheckpoint = {
    ...what,
    timestampMs: context.wallMs,
    finishedBefore: state.finished,
    waitingFor: running,
    acks: new Map(),
    progress: "acks",
    overdueCount: 0,
  };
  const barrier: Barrier = {
    checkpointId: id,
    timestampMs: context.wallMs,
    isFinal: savepoint === null ? what.isFinal : savepoint.stops === "drain",
    ...(savepoint === null ? {} : { savepoint: { location: savepoint.location, stops: savepoint.stops !== "no" } }),
  };
  const trigger: CheckpointTrigger = { epoch: state.epoch, attempt: state.attempt, barrier };
  const expectedCount = running.size + state.finished.size;
  return [
    { ...state, pending: [...state.pending, pending] },
    [
      { type: "trigger", id, trigger, targets: triggerTargets(state), expectedCount, savepoint },
      { type: "armTimeout", id, delayMs: config.timeoutMs },
    ],
  ];
}

/** Running subtasks whose predecessors have all finished: sources, and what follows finished ones. */
function triggerTargets(state: CoordinatorState): readonly SubtaskId[] {
  const finishedVertices = new Set<string>();
  for (const vertex of state.vertices) {
    if (subtasksOf(vertex).every((subtask) => state.finished.has(subtaskKeyOf(subtask))))
      finishedVertices.add(vertex.vertexId);
  }
  return state.vertices
    .filter((vertex) => vertex.inputVertexIds.every((input) => finishedVertices.has(input)))
    .flatMap(subtasksOf)
    .filter((subtask) => state.running.has(subtaskKeyOf(subtask)));
}

/** Asked for every event: counts, for a subtask is either running or finished. */
function isEverythingUp({ vertices, running, finished }: CoordinatorState): boolean {
  return running.size + finished.size >= vertices.reduce((sum, { parallelism }) => sum + parallelism, 0);
}

function isAllInputEnded(state: CoordinatorState): boolean {
  const sources = state.vertices.filter((vertex) => vertex.inputVertexIds.length === 0);
  const count = sources.reduce((sum, { parallelism }) => sum + parallelism, 0);
  if (state.ended.size + state.finished.size < count) return false; // asked for every event
  return sources.every((vertex) =>
    subtasksOf(vertex).every((s) => state.ended.has(subtaskKeyOf(s)) || state.finished.has(subtaskKeyOf(s))),
  );
}

function buildMetadata(state: CoordinatorState, pending: PendingCheckpoint): CheckpointMetadata {
  return {
    checkpointId: pending.id,
    kind: pending.savepoint === null ? "checkpoint" : "savepoint",
    base: pending.savepoint === null ? "job" : "self",
    lineage: state.lineage,
    epoch: state.epoch,
    attempt: state.attempt,
    planDigest: state.planDigest,
    timestampMs: pending.timestampMs,
    isFinal: pending.savepoint === null ? pending.isFinal : pending.savepoint.stops === "drain",
    vertices: state.vertices.map((vertex) => ({
      vertexId: vertex.vertexId,
      parallelism: vertex.parallelism,
      maxParallelism: vertex.maxParallelism,
      uids: vertex.uids,
      subtasks: subtasksOf(vertex).map((subtask) => {
        const key = subtaskKeyOf(subtask);
        const ack = pending.acks.get(key);
        assert(
          ack !== undefined || pending.finishedBefore.has(key) || planted("metadata-before-last-ack"),
          "CK1: metadata holds every subtask's part",
        );
        return { subtaskIndex: subtask.subtaskIndex, finished: ack?.finished ?? true, parts: ack?.parts ?? [] };
      }),
    })),
  };
}
