// Rescaling in place: a checkpoint, a record, then another attempt at the new parallelism, in the TaskManagers that there are.
//
// Invariants (tests cite them):
//   RO1. Nothing is restarted before the log says at which parallelism: the JobManager that takes over deploys what was asked for.
//   RO2. What the newest checkpoint cannot be restored at is refused before anything is recorded.
//   RO3. A checkpoint that fails leaves the job as it was. One that is cut off by a restart does not: there is an older one, and the
//        restart happens anyway.
//
// Not here: what is chosen (rescale.ts), the restart (scheduler.ts), recording the operation (operations.ts).

import { Failure, sleep, toFailure } from "@sluice/kit";
import type { Log, Timers } from "@sluice/kit/env";
import { assignState, checkpointVertices, withOutcome } from "../checkpoint/index.ts";
import type { CheckpointCoordinator, CommitLog } from "../checkpoint/index.ts";
import type { CheckpointMetadata, JobPlan } from "../model/index.ts";
import type { OperationRunner } from "./operations.ts";
import { decideRescale, hasParallelism, planAt, rescaleRefused } from "./rescale.ts";
import type { Parallelism } from "./rescale.ts";

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
  readonly coordinator: () => CheckpointCoordinator | undefined;
  readonly log: () => CommitLog | undefined;
  /** Of the newest checkpoint that this JobManager has restored or taken. */
  readonly newest: () => CheckpointMetadata | null;
  readonly unclaimedState: "fail" | "drop";
  /** The log says so: the next attempt has this plan. */
  readonly onRescaled: (plan: JobPlan) => void;
  readonly signal: AbortSignal;
}

export function rescaleRunner(options: RescaleOperationOptions): OperationRunner<"rescale"> {
  return async ({ requirements }, { id, isResumed }) => {
    const log = options.log();
    const choose = (): Parallelism => {
      const decision = decideRescale({
        plan: options.deployedPlan(),
        requirements,
        slotCount: options.slotCount(),
        takesCheckpoints: log !== undefined,
      });
      if (decision.type === "refused") throw rescaleRefused(decision);
      return decision.parallelism;
    };
    if (log === undefined) {
      choose(); // refuses everything but what the job has
      return { type: "done" };
    }
    if (isResumed) await untilDeployed(options);
    if (options.isDeployed() && !hasParallelism(options.wantedPlan(), choose())) await takeCheckpoint(options);

    const parallelism = choose(); // as many slots as there are by now
    const plan = planAt(options.wantedPlan(), parallelism);
    if (plan === undefined || log.head.jobState !== "active") throw ended();
    const metadata = options.newest();
    if (metadata !== null)
      assignState({ metadata, vertices: checkpointVertices(plan), unclaimedState: options.unclaimedState }); // RO2
    const rescale = { requirements, parallelism };
    const outcome = await log.append(
      (previous) => ({ rescale, ops: withOutcome(previous.ops, id, { type: "done" }) }),
      options.signal,
    );
    if (outcome.type === "failed") throw outcome.failure;
    options.env.log.info("rescaling", { operation: id, parallelism: Object.values(parallelism).join(",") });
    if (!hasParallelism(options.wantedPlan(), parallelism)) options.onRescaled(plan); // RO1
    return undefined; // settled by the record
  };
}

/** The JobManager before began it: the job comes back first. */
async function untilDeployed({ env, isDeployed }: RescaleOperationOptions): Promise<void> {
  await sleep(env.timers, REGISTRATION_MS);
  for (let waitedMs = REGISTRATION_MS; !isDeployed() && waitedMs < DEPLOYMENT_MS; waitedMs += LOOK_MS)
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

function ended(): Failure {
  return new Failure("OPERATION_CONFLICT", {
    retry: "never",
    message: "the job is about to end",
    remedy: "start it again at the parallelism that you want",
  });
}
