// What an attempt restores: the head of the log, repaired, or replaced by an older checkpoint where that is allowed.
//
// Invariants: RC1-RC3 of checkpoint/recovery.ts, and
//   JR1. An object that a reader found damaged counts as damaged although its size is right, until it was repaired.
//   JR2. Repair asks every registered TaskManager for a verified copy before anything older is looked at.
//
// Not here: the decision about a damaged head (checkpoint/decideDamaged).

import { assert } from "@sluice/kit";
import type { Log, ObjectStore, Rng, Timers } from "@sluice/kit/env";
import {
  assignState,
  checkpointVertices,
  decideDamaged,
  joinPath,
  loadCheckpoint,
  objectsDirectory,
  onlyPublishes,
  recover,
  referencedObjects,
  regressionChange,
  retractionOf,
  retryStorage,
} from "../checkpoint/index.ts";
import type {
  CheckpointPlace,
  CheckpointRef,
  CommitLog,
  Damage,
  LoadedCheckpoint,
  StoreOpener,
} from "../checkpoint/index.ts";
import type { CheckpointId, CheckpointMetadata, JobPlan, TaskRestore } from "../model/index.ts";
import { subtaskKey } from "../model/index.ts";

/** Repairing the same objects more often is in vain. */
const REPAIRS_MAX = 3;

export interface PreparedRestore {
  /** null: from the beginning. */
  readonly metadata: CheckpointMetadata | null;
  /** Directory that the parts are relative to, in ... */
  readonly restoreDir: string;
  /** ... the store of this URI; null: the job's own. */
  readonly restoreStore: string | null;
  /** The job was stopped with it: it is published, nothing is processed. */
  readonly endsAtOnce: boolean;
  /** By subtask key; empty without a checkpoint. */
  readonly tasks: ReadonlyMap<string, TaskRestore>;
}

/** A job that begins from the beginning. */
export const NOTHING_TO_RESTORE: PreparedRestore = {
  metadata: null,
  restoreDir: "",
  restoreStore: null,
  endsAtOnce: false,
  tasks: new Map(),
};

/** The TaskManagers' local copies; objects are relative to the job's directory. */
export interface CopyHolders {
  /** Waits until the TaskManagers that the job needs are there. */
  find(objects: readonly string[], signal: AbortSignal): Promise<ReadonlySet<string>>;
  /** Has the objects put back; returns those that were. */
  repair(objects: readonly string[]): Promise<readonly string[]>;
}

export interface RestoreOptions {
  readonly store: ObjectStore;
  readonly openStore: StoreOpener;
  readonly log: CommitLog;
  readonly plan: JobPlan;
  readonly env: { readonly timers: Timers; readonly rng: Rng; readonly log: Log };
  readonly copies: CopyHolders;
  /** JR1: objects relative to the job's directory, with what was wrong; repaired ones are taken out. */
  readonly damaged: Map<string, string>;
  readonly allowReplay: CheckpointId | undefined;
  /** State of operators that the plan does not have: refused, or dropped (Flink: allowNonRestoredState). */
  readonly unclaimedState: "fail" | "drop";
  readonly signal: AbortSignal;
}

/** Rejects with SNAPSHOT_DAMAGED (what can be done is in its remedy), STATE_INCOMPATIBLE, or CANCELED. */
export async function prepareRestore(options: RestoreOptions): Promise<PreparedRestore> {
  const { log } = options;
  const { head } = log.head;
  if (head === null) return fromOrigin(options);
  for (let repairs = 0; ; repairs += 1) {
    const current = log.head.head;
    assert(current !== null, "CL1: a head does not vanish");
    const loaded = await load(options, current);
    if (loaded.type === "ok") {
      // Condemned ids above the head do not prove a regression: concurrent checkpoints that were aborted are condemned too.
      const retractThrough = retractionOf(log.head)?.throughId;
      return assign(options, { ...loaded, retractThrough, claimedLineage: undefined });
    }
    // A newer JobManager may have deleted what this one takes for the newest checkpoint: fenced is not damaged.
    await retryStorage(options.env, options.signal, "commit-log-verify", () => log.verifyOwnership(options.signal));
    await replace(options, loaded.damage, repairs < REPAIRS_MAX);
  }
}

async function fromOrigin(options: RestoreOptions): Promise<PreparedRestore> {
  const recovery = await recover({ ...options, localCopies: new Set(), allSinksCanRetract: false });
  if (recovery.type === "empty") return NOTHING_TO_RESTORE;
  assert(recovery.type === "restore", "without a head there is nothing to repair");
  return assign(options, { ...recovery, retractThrough: undefined, claimedLineage: options.log.head.claim?.lineage });
}

async function load(options: RestoreOptions, ref: CheckpointRef): Promise<LoadedCheckpoint> {
  const { store, openStore, damaged, env, signal } = options;
  const loaded = await loadCheckpoint({ store, openStore, ref, env, signal });
  if (loaded.type === "damaged") return loaded;
  const directory = objectsDirectory(loaded.place, loaded.metadata);
  const objects = [...referencedObjects("", loaded.metadata)].flatMap((object): Damage["objects"] => {
    const reason = damaged.get(object); // JR1
    return reason === undefined ? [] : [{ object: joinPath(directory, object), kind: "part", reason }];
  });
  return objects.length === 0 ? loaded : { type: "damaged", damage: { ref, objects, metadata: loaded.metadata } };
}

/** Makes the head whole, or makes an older one the head; rejects when neither is possible. */
async function replace(options: RestoreOptions, damage: Damage, mayRepair: boolean): Promise<void> {
  const { log, plan, env, copies, damaged, allowReplay, signal } = options;
  const { jobDir } = log;
  const inJob = (path: string): string => path.slice(jobDir.length + 1);
  // Of a savepoint nobody keeps copies: it does not lie in the job's directory.
  const isOwn = damage.metadata?.base === "job";
  const parts = isOwn ? damage.objects.filter(({ kind }) => kind === "part").map(({ object }) => inJob(object)) : [];
  env.log.warn("the newest checkpoint is damaged", { checkpoint: damage.ref.id, objects: damage.objects.length });
  const found = mayRepair && parts.length > 0 ? await copies.find(parts, signal) : new Set<string>(); // JR2
  const whole: CheckpointRef[] = [];
  for (const ref of log.head.retained) {
    if (ref.id < damage.ref.id && (await load(options, ref)).type === "ok") whole.push(ref);
  }
  const sinks = plan.vertices.flatMap(({ chain }) => chain.filter(({ kind }) => kind === "sink"));
  const decision = decideDamaged(damage, {
    localCopies: new Set([...found].map((object) => `${jobDir}/${object}`)),
    allSinksCanRetract: sinks.every((sink) => sink.canRetract === true),
    allowReplay,
    whole,
  });
  switch (decision.type) {
    case "stop":
      throw decision.failure;
    case "repair": {
      const repaired = await copies.repair(decision.objects.map(inJob));
      for (const object of repaired) damaged.delete(object);
      env.log.info("the newest checkpoint was repaired from local copies", {
        checkpoint: damage.ref.id,
        objects: repaired.length,
      });
      return;
    }
    case "rollback": {
      const { to, reason } = decision;
      const outcome = await log.append((previous) => regressionChange(previous, to, reason), signal);
      if (outcome.type === "failed") throw outcome.failure;
      env.log.warn("the job goes back behind its newest checkpoint", { from: damage.ref.id, to: to.id, reason });
      return;
    }
  }
}

function assign(
  options: RestoreOptions,
  from: {
    readonly metadata: CheckpointMetadata;
    readonly place: CheckpointPlace;
    readonly retractThrough: CheckpointId | undefined;
    readonly claimedLineage: string | undefined;
  },
): PreparedRestore {
  const { metadata, place, retractThrough, claimedLineage } = from;
  const tasks = new Map<string, TaskRestore>();
  const { plan, unclaimedState, env } = options;
  const { subtasks, droppedUids } = assignState({ metadata, vertices: checkpointVertices(plan), unclaimedState });
  for (const uid of droppedUids)
    env.log.warn("state that no operator takes is dropped", { uid, checkpoint: metadata.checkpointId });
  for (const { vertexId, subtaskIndex, parts } of subtasks) {
    const { checkpointId } = metadata;
    tasks.set(subtaskKey({ vertexId, subtaskIndex }), { checkpointId, retractThrough, claimedLineage, parts });
  }
  return {
    metadata,
    restoreDir: objectsDirectory(place, metadata),
    restoreStore: place.storeUri ?? null,
    endsAtOnce: onlyPublishes(options.log.head, metadata),
    tasks,
  };
}
