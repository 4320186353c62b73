// What one run of the operations world is like: sizes, times, what users wish for, which faults there are. Drawn from the seed.

import type { Rng } from "@sluice/kit/env";
import type { JobPlan } from "@sluice/runtime/internal/model";
import { configurationOf, runtimeSettings } from "@sluice/runtime/internal/model/configuration";
import type { RuntimeSettings } from "@sluice/runtime/internal/model/configuration";
import { type FaultPlan, HEALTHY, swarm } from "../../index.ts";
import { VERTICES } from "../pipeline.ts";
import { JOB_NAME } from "./job-manager.ts";
import type { Wishes } from "./users.ts";

export const STORE_URI = "sim://store";
export const SAVEPOINT_DIRECTORY = `${STORE_URI}/savepoints`;
/** How long a run has input for after the faults have ended. */
const REST_MS = 8_000;
/** Records that a pipeline of model tasks emits at a time, on average. */
const RECORDS_PER_EMIT = 2.5;

export interface Shape {
  readonly laneCount: number;
  readonly parallelism: number;
  readonly taskManagerCount: number;
  readonly slotsPerTaskManager: number;
  readonly recordCount: number;
  readonly emitEveryMs: number;
  readonly declineProbability: number;
  readonly chaosMs: number;
  readonly wishEveryMs: number;
  readonly wishCountMax: number;
  readonly wishes: Wishes;
  readonly answerLossProbability: number;
  /** Mean time between SIGTERMs for the JobManager; 0: none. */
  readonly leaveMeanMs: number;
  /** Whoever has cancelled the job starts it again. */
  readonly restartsCancelled: boolean;
  readonly settings: RuntimeSettings;
}

/** Half of the runs have nothing but processes that die or stand still: there a failed operation has no other excuse. */
export function drawFaults(rng: Rng): FaultPlan {
  if (rng.chance(0.5)) return swarm(rng);
  return {
    ...HEALTHY,
    crashMeanMs: 700 + rng.below(3_000),
    pauseMeanMs: rng.chance(0.3) ? 1_500 + rng.below(3_000) : 0,
  };
}

export function drawShape(rng: Rng, faults: FaultPlan): Shape {
  const chaosMs = 4_000 + rng.below(8_000);
  const emitEveryMs = 100 + rng.below(150);
  const taskManagerCount = 1 + rng.below(3);
  const slotsPerTaskManager = 1 + rng.below(2);
  const slotCount = taskManagerCount * slotsPerTaskManager;
  const wish = (weight: number): number => (rng.chance(0.7) ? 1 + rng.below(weight) : 0);
  const restartsCancelled = rng.chance(0.6);
  return {
    laneCount: 1 + rng.below(4),
    parallelism: 1 + rng.below(slotCount),
    taskManagerCount,
    slotsPerTaskManager,
    recordCount: Math.ceil(((chaosMs + REST_MS) / emitEveryMs) * RECORDS_PER_EMIT),
    emitEveryMs,
    declineProbability: rng.chance(0.4) ? 0.01 + rng.below(6) / 100 : 0,
    chaosMs,
    wishEveryMs: 200 + rng.below(1_200),
    wishCountMax: 4 + rng.below(24),
    wishes: {
      checkpoint: 1 + rng.below(3),
      savepoint: wish(6),
      rescale: wish(8),
      stop: wish(3),
      dispose: wish(3),
      drain: rng.chance(0.25) ? 1 : 0,
      cancel: rng.chance(0.5) ? 1 : 0,
    },
    answerLossProbability: rng.chance(0.5) ? 0.3 : 0,
    leaveMeanMs: rng.chance(0.4) ? 1_500 + rng.below(4_000) : 0,
    restartsCancelled,
    settings: drawSettings(rng, faults, restartsCancelled),
  };
}

function drawSettings(rng: Rng, faults: FaultPlan, restartsCancelled: boolean): RuntimeSettings {
  const base = runtimeSettings(configurationOf({}));
  const isStoreWell = faults.store.failProbability === 0 && faults.store.fullMeanMs === 0;
  return {
    ...base,
    checkpoints: {
      mode: "EXACTLY_ONCE",
      intervalMs: 100 + rng.below(900),
      timeoutMs: isStoreWell && rng.chance(0.7) ? 60_000 : 2_000 + rng.below(6_000),
      minPauseMs: rng.chance(0.5) ? 0 : rng.below(100),
      concurrentMax: 1 + rng.below(3),
      tolerableFailedCount: rng.chance(0.3) ? 0 : rng.below(8),
      retainedMax: 1 + rng.below(4),
      cleansInParallel: true,
      historyMax: 10,
    },
    // Who starts the job again needs its state.
    retainOnCancellation: restartsCancelled || rng.chance(0.5),
    savepointDirectory: SAVEPOINT_DIRECTORY,
    localCopies: { ...base.localCopies, enabled: false, readsFirst: false },
    restart: { type: "fixed-delay", attemptsMax: Number.MAX_SAFE_INTEGER, delayMs: rng.below(300) },
    heartbeatIntervalMs: 200,
    heartbeatTimeoutMs: 700 + rng.below(600),
  };
}

/** The job's graph: three vertices in a row, subtask by subtask. */
export function planOf(parallelism: number): JobPlan {
  return {
    formatVersion: 0,
    jobName: JOB_NAME,
    digest: "digest",
    arguments: [],
    configuration: {},
    vertices: VERTICES.map((name, i) => {
      const from = VERTICES[i - 1];
      const kind = i === 0 ? "source" : name === "sink" ? "sink" : "oneInput";
      const edge = { inputIndex: 0, partitioning: "FORWARD", type: { kind: "LONG" } } as const;
      return {
        id: name,
        name,
        parallelism,
        maxParallelism: 128,
        chain: [{ transformationId: i, name, uid: name, kind, stateful: true, canRetract: true }],
        inputs: from === undefined ? [] : [{ ...edge, id: i, sourceVertexId: from, targetVertexId: name }],
        splits: [],
      };
    }),
  };
}
