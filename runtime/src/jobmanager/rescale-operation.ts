// Rescaling in place: a checkpoint, a record, then another attempt at the new parallelism, in the TaskManagers that there are.
//
// Invariants (tests cite them):
//   RO1. Nothing is restarted before the log says at which parallelism: the JobManager that takes over deploys what was asked for.
//   RO2. What the newest checkpoint cannot be restored at is refused before anything is recorded.
//   RO3. A checkpoint that fails leaves the job as it was. One that is cut off by a restart does not: there is an older one, and the
//        restart happens anyway. A TaskManager that is lost meanwhile has time to come back before its slots are given up.
//   RO4. A job that has ended, or is about to, is not rescaled, whatever its log says yet: nothing is recorded behind the record of its end.
//
// Not here: what is chosen (rescale.ts), the restart (scheduler.ts), recording the operation (operations.ts).

import { Failure, planted, sleep, toFailure } from "@sluice/kit";
import type { Log, Timers } from "@sluice/kit/env";
import { assignState, checkpointVertices, withOutcome } from "../checkpoint/index.ts";
import type { CheckpointCoordinator, CommitLog } from "../checkpoint/index.ts";
import type { CheckpointMetadata, JobPlan } from "../model/index.ts";
import type { OperationRunner } from "./operations.ts";
import { decideRescale, hasParallelism, planAt, rescaleRefused } from "./rescale.ts";
import type { Parallelism, RescaleDecision } from "./rescale.ts";

/** TaskManagers of the JobManager before register one after the other: spare ones may be last. */
const REGISTRATION_MS = 2_500;
/** A job that is not deployed after this long may lack the slots that it is to give up: it is rescaled without a checkpoint. */
const DEPLOYMENT_MS = 30_000;
const LOOK_MS = 500;

export interface RescaleOperationOptions {
  readonly env: { readonly timers: Timers; readonly log: Log };
  /** As deployed. */
  readonly deployedPlan: () => JobPlan;
  /** As planned, at the parallelism that the job has or is about to get. */
  readonly wantedPlan: () => JobPlan;
  readonly slotCount: () => number;
  /** Tasks run, or are about to. */
  readonly isDeployed: () => boolean;
  /** There is an attempt that runs or will, and that is not the last one. */
  readonly mayRescale: () => boolean;
  readonly coordinator: () => CheckpointCoordinator | undefined;
  readonly log: () => CommitLog | undefined;
  /** Of the newest checkpoint that this JobManager has restored or taken; undefined: it has not found out yet. */
  readonly newest: () => CheckpointMetadata | null | undefined;
  readonly unclaimedState: "fail" | "drop";
  /** The log says so: the next attempt has this plan. */
  readonly onRescaled: (plan: JobPlan) => void;
  readonly signal: AbortSignal;
}

export function rescaleRunner(options: RescaleOperationOptions): OperationRunner<"rescale"> {
  return async ({ requirements }, { id, isResumed }) => {
    const log = options.log();
    const decide = (): RescaleDecision =>
      decideRescale({
        plan: options.deployedPlan(),
        requirements,
        slotCount: options.slotCount(),
        takesCheckpoints: log !== undefined,
      });
    const choose = (): Parallelism => {
      const decision = decide();
      if (decision.type === "refused") throw rescaleRefused(decision);
      return decision.parallelism;
    };
    if (log === undefined) {
      choose(); // refuses everything but what the job has
      return { type: "done" };
    }
    if (planted("rescale-recorded-before-checked"))
      await log.append(() => ({ rescale: { requirements, parallelism: {} } }), options.signal);
    if (isResumed) {
      await sleep(options.env.timers, REGISTRATION_MS); // the JobManager before began it: the job comes back first
      const lacksSlots = (): boolean => {
        const now = decide();
        return now.type === "refused" && now.because === "conflict";
      };
      await until(options, () => options.isDeployed() && !lacksSlots());
    }
    if (options.isDeployed()) {
      const chosen = choose();
      if (!hasParallelism(options.wantedPlan(), chosen)) {
        await takeCheckpoint(options);
        await until(options, () => {
          const now = decide();
          return now.type === "ok" && isSame(now.parallelism, chosen);
        });
      }
    }
    await until(options, () => options.newest() !== undefined); // RO2

    const parallelism = choose(); // as many slots as there are by now
    const plan = planAt(options.wantedPlan(), parallelism);
    if (plan === undefined || log.head.jobState !== "active" || !options.mayRescale()) throw ended(); // RO4
    const metadata = options.newest();
    if (metadata !== null && metadata !== undefined)
      assignState({ metadata, vertices: checkpointVertices(plan), unclaimedState: options.unclaimedState }); // RO2
    const rescale = { requirements, parallelism };
    const outcome = await log.append((previous) => {
      if (previous.jobState !== "active") throw ended(); // RO4: recorded meanwhile
      return { rescale, ops: withOutcome(previous.ops, id, { type: "done" }) };
    }, options.signal);
    if (outcome.type === "failed") throw outcome.failure;
    options.env.log.info("rescaling", { operation: id, parallelism: Object.values(parallelism).join(",") });
    if (!hasParallelism(options.wantedPlan(), parallelism) && !planted("rescale-not-deployed"))
      options.onRescaled(plan); // RO1
    return undefined; // settled by the record
  };
}

/** Looks again and again, not for ever. */
async function until({ env, mayRescale }: RescaleOperationOptions, holds: () => boolean): Promise<void> {
  for (let waitedMs = 0; !holds() && mayRescale() && waitedMs < DEPLOYMENT_MS; waitedMs += LOOK_MS)
    await sleep(env.timers, LOOK_MS);
}

/** RO3. */
async function takeCheckpoint({ coordinator, env }: RescaleOperationOptions): Promise<void> {
  try {
    await coordinator()?.triggerCheckpoint();
  } catch (thrown) {
    const failure = toFailure(thrown);
    if (failure.code !== "CANCELED") throw thrown;
    env.log.info("rescaling from an older checkpoint: the job restarts anyway");
  }
}

function isSame(one: Parallelism, other: Parallelism): boolean {
  return Object.entries(one).every(([id, count]) => other[id] === count);
}

function ended(): Failure {
  return new Failure("OPERATION_CONFLICT", {
    retry: "never",
    message: "the job is about to end",
    remedy: "start it again at the parallelism that you want",
  });
}
