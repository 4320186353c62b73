// The scheduler's decisions, pure: step(state, event, context) -> [state, effects].
//
// The job is one region (all edges are pipelined): any failure of a task or loss of a TaskManager ends the attempt everywhere;
// the next attempt starts in fresh threads from the newest checkpoint.
//
// Invariants (tests cite them):
//   SC1. At most one attempt is deployed; the next one is deployed after every TaskManager of the one before has said that its
//        slots are free, or is lost.
//   SC2. An attempt is deployed only when what it restores is known, the restart delay is over and there are enough slots.
//   SC3. What an older attempt says late changes nothing.
//   SC4. The first failure of an attempt decides; those that follow from it are not counted.
//   SC5. The job ends only through `close`: the log knows how it ended before anybody is told.
//   SC6. Only the first attempt of a JobManager waits for TaskManagers with copies, once, and only while others that are back already
//        hold some of what it restores: those of the JobManager before register one after the other.
//   SC7. A job at another parallelism is another attempt: what is deployed keeps its plan until it is gone.
//
// Not here: connections, storage, timers (job-master.ts), checkpoints (checkpoint/coordinator).

import { assert, Failure, unreachable } from "@sluice/kit";
import type { AttemptNumber, JobPlan, SubtaskId, TaskState } from "../model/index.ts";
import { subtaskKey } from "../model/index.ts";
import { executionTransition, isExecutionTerminal, jobTransition, mayBecome } from "./job-state.ts";
import { placeSlots, slotsRequired, subtasksOfSlot } from "./placement.ts";
import type { ExecutionState, JobStatus } from "./rest/source.ts";
import type { RestartDecision } from "./restart-strategy.ts";

/** A registered TaskManager. */
export interface RegisteredTaskManager {
  readonly id: string;
  readonly slotCount: number;
}

export interface Deployment {
  readonly attempt: AttemptNumber;
  /** TaskManager ids by slot. */
  readonly owners: readonly string[];
  /** Those whose threads may still run. */
  readonly active: ReadonlySet<string>;
  readonly isCancelled: boolean;
}

export type EndState = "FINISHED" | "CANCELED" | "FAILED";

export interface SchedulerState {
  /** Of what is deployed; while nothing is, of what comes next. */
  readonly plan: JobPlan;
  /** At another parallelism, for the next attempt (SC7). */
  readonly nextPlan: JobPlan | undefined;
  readonly job: JobStatus;
  /** Of the deployment that runs or comes next. */
  readonly attempt: AttemptNumber;
  readonly taskManagers: ReadonlyMap<string, RegisteredTaskManager>;
  readonly deployment: Deployment | undefined;
  /** By subtask key. */
  readonly executions: ReadonlyMap<string, ExecutionState>;
  readonly isPrepared: boolean;
  readonly isDelayOver: boolean;
  /** Whether the first attempt waits for TaskManagers that are not back yet and may hold copies (SC6). */
  readonly copiesWait: "not-yet" | "waiting" | "over";
  /** Set while everything else is ready and slots are missing. */
  readonly missingSlotCount: number;
  /** Why the job fails, once it does. */
  readonly failure: Failure | undefined;
}

export type SchedulerEvent =
  /** The log is claimed: scheduling begins, at the parallelism that the log asks for if it does. */
  | { readonly type: "started"; readonly plan?: JobPlan }
  | { readonly type: "registered"; readonly taskManager: RegisteredTaskManager }
  | { readonly type: "lost"; readonly taskManagerId: string; readonly failure: Failure }
  | { readonly type: "prepared"; readonly attempt: AttemptNumber }
  /** What to restore cannot be found out. */
  | { readonly type: "prepareFailed"; readonly attempt: AttemptNumber; readonly failure: Failure }
  | { readonly type: "delayOver"; readonly attempt: AttemptNumber }
  | { readonly type: "copiesWaitOver" }
  | {
      readonly type: "deployFailed";
      readonly attempt: AttemptNumber;
      readonly taskManagerId: string;
      readonly failure: Failure;
    }
  | {
      readonly type: "taskState";
      readonly attempt: AttemptNumber;
      readonly subtask: SubtaskId;
      readonly state: TaskState;
      readonly failure: Failure | undefined;
    }
  | { readonly type: "attemptEnded"; readonly attempt: AttemptNumber; readonly taskManagerId: string }
  /** Without a task: too many failed checkpoints. */
  | { readonly type: "jobFailure"; readonly failure: Failure }
  /** Its sources emit nothing more: the next attempt goes on from the newest checkpoint. Nothing of the job failed. */
  | { readonly type: "stopFailed"; readonly failure: Failure }
  /** The log says that the job has this parallelism from now on. Nothing of it failed. */
  | { readonly type: "rescaled"; readonly plan: JobPlan }
  | { readonly type: "cancelRequested" }
  | { readonly type: "suspendRequested" }
  | { readonly type: "closed"; readonly as: EndState };

export type SchedulerEffect =
  /** Find out what `attempt` restores; checkpoints stop meanwhile. */
  | { readonly type: "prepare"; readonly attempt: AttemptNumber }
  | { readonly type: "armDelay"; readonly attempt: AttemptNumber; readonly delayMs: number }
  | { readonly type: "armCopiesWait" }
  | { readonly type: "deploy"; readonly attempt: AttemptNumber; readonly owners: readonly string[] }
  | { readonly type: "cancelAttempt"; readonly attempt: AttemptNumber; readonly taskManagerIds: readonly string[] }
  | { readonly type: "taskRunning"; readonly subtask: SubtaskId }
  | { readonly type: "taskFinished"; readonly subtask: SubtaskId }
  | { readonly type: "sourceEnded"; readonly subtask: SubtaskId }
  | {
      readonly type: "recordException";
      readonly failure: Failure;
      readonly subtask: SubtaskId | null;
      readonly taskManagerId: string | null;
    }
  | { readonly type: "noSlots"; readonly missingCount: number }
  | {
      readonly type: "restarting";
      readonly attempt: AttemptNumber;
      readonly delayMs: number;
      readonly failure: Failure;
    }
  | { readonly type: "rescaling"; readonly attempt: AttemptNumber }
  /** Write into the log how the job ended. */
  | { readonly type: "close"; readonly as: EndState }
  | { readonly type: "jobEnded"; readonly as: EndState; readonly failure: Failure | undefined };

export interface SchedulerContext {
  /** Counts the failure; called at most once per step. */
  readonly decideRestart: (failure: Failure) => RestartDecision;
  /** Of what a slot of the prepared attempt restores: bytes by TaskManager that has a local copy of them. */
  readonly localBytes: (slotIndex: number) => ReadonlyMap<string, number>;
  /** Registered TaskManagers have copies of some of what the prepared attempt restores, and not of all. */
  readonly missesCopies: () => boolean;
}

export function initialSchedulerState(plan: JobPlan): SchedulerState {
  return {
    plan,
    nextPlan: undefined,
    job: "INITIALIZING",
    attempt: 0 as AttemptNumber,
    taskManagers: new Map(),
    deployment: undefined,
    executions: newExecutions(plan),
    isPrepared: false,
    isDelayOver: true,
    copiesWait: "not-yet",
    missingSlotCount: 0,
    failure: undefined,
  };
}

/** The plan of the next attempt. */
export function wantedPlan({ nextPlan, plan }: SchedulerState): JobPlan {
  return nextPlan ?? plan;
}

type Step = readonly [SchedulerState, readonly SchedulerEffect[]];

/** Pure: no clock, no I/O, no await. */
export function schedule(state: SchedulerState, event: SchedulerEvent, context: SchedulerContext): Step {
  const [next, effects] = apply(state, event, context);
  const { deployment } = next;
  assert(
    deployment === undefined ||
      deployment.attempt === next.attempt ||
      (deployment.isCancelled && deployment.attempt < next.attempt),
    "SC1: what is deployed is the current attempt, or an older one on its way out",
  );
  return [next, effects];
}

function apply(state: SchedulerState, event: SchedulerEvent, context: SchedulerContext): Step {
  switch (event.type) {
    case "started": {
      const created = jobTransition("INITIALIZING", "CREATED");
      assert(state.job === "INITIALIZING" && created === "CREATED", "a job starts once");
      const running = jobTransition("CREATED", "RUNNING");
      const { plan = state.plan } = event;
      const next = { ...state, job: running, plan, executions: moveAll(newExecutions(plan), "SCHEDULED") };
      return [next, [{ type: "prepare", attempt: state.attempt }]];
    }
    case "registered": {
      const taskManagers = new Map(state.taskManagers).set(event.taskManager.id, event.taskManager);
      return deployIfReady({ ...state, taskManagers }, context);
    }
    case "lost":
      return lost(state, event.taskManagerId, event.failure, context);
    case "prepared":
      return event.attempt === state.attempt && isWaiting(state)
        ? deployIfReady({ ...state, isPrepared: true }, context)
        : [state, []];
    case "prepareFailed": {
      if (event.attempt !== state.attempt || !isWaiting(state)) return [state, []];
      const effects: SchedulerEffect[] = [
        { type: "recordException", failure: event.failure, subtask: null, taskManagerId: null },
      ];
      return follow(fail(state, event.failure, context), effects);
    }
    case "delayOver":
      return event.attempt === state.attempt ? deployIfReady({ ...state, isDelayOver: true }, context) : [state, []];
    case "copiesWaitOver":
      return deployIfReady({ ...state, copiesWait: "over" }, context);
    case "deployFailed": {
      if (state.deployment?.attempt !== event.attempt) return [state, []];
      // The TaskManager runs nothing of this attempt, or is about to be reported as lost, or answers too late: then it is told to drop
      // the order, and should it begin nevertheless, its next deployment waits for the end of this one (TM1).
      const { attempt, taskManagerId, failure } = event;
      const freed = withoutActive(state, taskManagerId);
      const effects: SchedulerEffect[] = [{ type: "cancelAttempt", attempt, taskManagerIds: [taskManagerId] }];
      return follow(attemptFailed(freed, { failure, subtask: null, taskManagerId }, context), effects);
    }
    case "taskState":
      return taskState(state, event, context);
    case "attemptEnded":
      if (state.deployment?.attempt !== event.attempt) return [state, []]; // SC3
      return attemptEnded(state, event.taskManagerId, context);
    case "jobFailure":
      return attemptFailed(state, { failure: event.failure, subtask: null, taskManagerId: null }, context);
    case "stopFailed":
      return mayFail(state)
        ? restart(state, { failure: event.failure, delayMs: 0 }, context)
        : afterRelease(state, context);
    case "rescaled":
      return rescaled(state, event.plan, context);
    case "cancelRequested":
      if (state.job !== "CREATED" && state.job !== "RUNNING" && state.job !== "RESTARTING") return [state, []];
      if (isAllFinished(state)) return [state, []]; // too late: its last output is published
      return cancelDeployment({ ...state, job: jobTransition(state.job, "CANCELLING") }, context);
    case "suspendRequested": {
      const { job } = state;
      if (job === "FINISHED" || job === "FAILED" || job === "CANCELED" || job === "SUSPENDED" || job === "RECONCILING")
        return [state, []];
      return [{ ...state, job: jobTransition(job, "SUSPENDED") }, []];
    }
    case "closed":
      return closed(state, event.as);
    default:
      return unreachable(event);
  }
}

/** Nothing is deployed, and something will be. */
function isWaiting(state: SchedulerState): boolean {
  return state.job === "RUNNING" ? state.deployment === undefined : state.job === "RESTARTING";
}

function deployIfReady(state: SchedulerState, context: SchedulerContext): Step {
  const isReady = isWaiting(state) && state.deployment === undefined && state.isPrepared && state.isDelayOver; // SC1, SC2
  if (!isReady) return [state, []];
  const required = slotsRequired(state.plan);
  const taskManagers = [...state.taskManagers.values()];
  const owners = placeSlots(required, taskManagers, context.localBytes);
  if (owners === undefined) {
    const missingCount = required - taskManagers.reduce((sum, { slotCount }) => sum + slotCount, 0);
    const effects: SchedulerEffect[] =
      missingCount === state.missingSlotCount ? [] : [{ type: "noSlots", missingCount }];
    return [{ ...state, missingSlotCount: missingCount }, effects];
  }
  if (state.copiesWait !== "over" && context.missesCopies()) {
    if (state.copiesWait === "waiting") return [state, []];
    return [{ ...state, copiesWait: "waiting" }, [{ type: "armCopiesWait" }]]; // SC6
  }
  const { attempt, job } = state;
  const deployment: Deployment = { attempt, owners, active: new Set(owners), isCancelled: false };
  const next: SchedulerState = {
    ...state,
    job: job === "RESTARTING" ? jobTransition(job, "RUNNING") : job,
    deployment,
    executions: moveAll(state.executions, "DEPLOYING"),
    missingSlotCount: 0,
    copiesWait: "over",
  };
  return [next, [{ type: "deploy", attempt, owners }]];
}

function taskState(
  state: SchedulerState,
  event: Extract<SchedulerEvent, { readonly type: "taskState" }>,
  context: SchedulerContext,
): Step {
  const { deployment } = state;
  const { subtask } = event;
  const key = subtaskKey(subtask);
  const before = state.executions.get(key);
  if (deployment?.attempt !== event.attempt || before === undefined) return [state, []]; // SC3
  if (event.state === "DRAINED") {
    const vertex = state.plan.vertices.find(({ id }) => id === subtask.vertexId);
    const isSource = vertex?.inputs.length === 0;
    return [state, isSource && !deployment.isCancelled ? [{ type: "sourceEnded", subtask }] : []];
  }
  if (!mayBecome(before, event.state)) return [state, []]; // RUNNING of a task that is being cancelled
  const next = {
    ...state,
    executions: new Map(state.executions).set(key, executionTransition(before, event.state as never)),
  };
  if (event.state === "FAILED") {
    const failure =
      event.failure ?? new Failure("TASK_LOST", { retry: "backoff", message: `task ${key} failed without a reason` });
    return attemptFailed(
      next,
      { failure, subtask, taskManagerId: deployment.owners[subtask.subtaskIndex] ?? null },
      context,
    );
  }
  if (deployment.isCancelled) return [next, []];
  if (event.state === "CANCELED") {
    // Nobody asked for it: its TaskManager is about to go.
    const taskManagerId = deployment.owners[subtask.subtaskIndex] ?? null;
    const failure = new Failure("TASK_LOST", {
      retry: "now",
      message: `TaskManager ${taskManagerId ?? "?"} cancelled task ${key} by itself`,
    });
    return attemptFailed(next, { failure, subtask, taskManagerId }, context);
  }
  if (event.state === "RUNNING") return [next, [{ type: "taskRunning", subtask }]];
  if (event.state !== "FINISHED") return [next, []];
  const effects: SchedulerEffect[] = [{ type: "taskFinished", subtask }];
  if (isAllFinished(next) && next.job === "RUNNING") effects.push({ type: "close", as: "FINISHED" }); // SC5
  return [next, effects];
}

function isAllFinished(state: SchedulerState): boolean {
  return [...state.executions.values()].every((execution) => execution === "FINISHED");
}

interface Cause {
  readonly failure: Failure;
  readonly subtask: SubtaskId | null;
  readonly taskManagerId: string | null;
}

/** The running attempt failed: restart it or fail the job. */
function attemptFailed(state: SchedulerState, cause: Cause, context: SchedulerContext): Step {
  if (!mayFail(state)) return afterRelease(state, context); // SC4
  const effects: SchedulerEffect[] = [{ type: "recordException", ...cause }];
  const decision = context.decideRestart(cause.failure);
  if (decision.type === "fail") return follow(fail(state, cause.failure, context), effects);
  return follow(restart(state, { failure: cause.failure, delayMs: decision.delayMs }, context), effects);
}

/** An attempt is deployed that nobody ends yet. */
function mayFail(state: SchedulerState): boolean {
  const { deployment, job } = state;
  return job === "RUNNING" && deployment !== undefined && !deployment.isCancelled && !isAllFinished(state);
}

function restart(
  state: SchedulerState,
  why: { readonly failure: Failure; readonly delayMs: number },
  context: SchedulerContext,
): Step {
  const { job } = state;
  const { failure, delayMs } = why;
  assert(job === "RUNNING", "only a running job restarts");
  const attempt = (state.attempt + 1) as AttemptNumber;
  const [cancelled, cancelEffects] = cancelDeployment(
    {
      ...state,
      job: jobTransition(job, "RESTARTING"),
      attempt,
      isPrepared: false,
      isDelayOver: delayMs === 0,
    },
    context,
  );
  const effects: SchedulerEffect[] = [
    { type: "restarting", attempt, delayMs, failure },
    ...cancelEffects,
    { type: "prepare", attempt },
  ];
  if (delayMs > 0) effects.push({ type: "armDelay", attempt, delayMs });
  return [cancelled, effects];
}

/** There is an attempt that runs or will, and that is not the last one. */
export function mayRescale(state: SchedulerState): boolean {
  const { job, deployment } = state;
  if (job !== "RUNNING" && job !== "RESTARTING") return false;
  return deployment === undefined || deployment.isCancelled || mayFail(state); // else it has just finished
}

/** SC7. A job that waits, for slots or for the end of a delay, is prepared anew and waits no longer than it must. */
function rescaled(state: SchedulerState, plan: JobPlan, context: SchedulerContext): Step {
  if (!mayRescale(state)) return [state, []];
  const { deployment } = state;
  const attempt = (state.attempt + 1) as AttemptNumber;
  const next: SchedulerState = { ...state, attempt, nextPlan: plan, isPrepared: false, isDelayOver: true };
  const begins: SchedulerEffect = { type: "rescaling", attempt };
  const prepares: SchedulerEffect = { type: "prepare", attempt };
  if (deployment === undefined) return [withNextPlan(next), [begins, prepares]];
  if (deployment.isCancelled) return [next, [begins, prepares]];
  const [cancelled, effects] = cancelDeployment({ ...next, job: jobTransition("RUNNING", "RESTARTING") }, context);
  return [cancelled, [begins, ...effects, prepares]];
}

/** Nothing is deployed: the next attempt's tasks take the place of those before. */
function withNextPlan(state: SchedulerState): SchedulerState {
  const plan = wantedPlan(state);
  return {
    ...state,
    plan,
    nextPlan: undefined,
    missingSlotCount: 0,
    executions: moveAll(newExecutions(plan), "SCHEDULED"),
  };
}

function fail(state: SchedulerState, failure: Failure, context: SchedulerContext): Step {
  const { job } = state;
  assert(job === "RUNNING" || job === "RESTARTING" || job === "CREATED", "only a job that lives fails");
  return cancelDeployment({ ...state, job: jobTransition(job, "FAILING"), failure }, context);
}

function follow([state, effects]: Step, before: readonly SchedulerEffect[]): Step {
  return [state, [...before, ...effects]];
}

/** Cancels what is deployed; goes on at once when nothing is. */
function cancelDeployment(state: SchedulerState, context: SchedulerContext): Step {
  const { deployment } = state;
  if (deployment === undefined) return afterRelease(state, context);
  const executions = new Map(
    [...state.executions].map(([key, execution]): [string, ExecutionState] =>
      mayBecome(execution, "CANCELING") ? [key, "CANCELING"] : [key, execution],
    ),
  );
  const next = { ...state, executions, deployment: { ...deployment, isCancelled: true } };
  const [released, effects] = afterRelease(next, context);
  if (deployment.isCancelled || deployment.active.size === 0) return [released, effects];
  return [
    released,
    [{ type: "cancelAttempt", attempt: deployment.attempt, taskManagerIds: [...deployment.active] }, ...effects],
  ];
}

function withoutActive(state: SchedulerState, taskManagerId: string): SchedulerState {
  const { deployment } = state;
  if (deployment === undefined || !deployment.active.has(taskManagerId)) return state;
  const active = new Set(deployment.active);
  active.delete(taskManagerId);
  return { ...state, deployment: { ...deployment, active } };
}

/** Goes on when the last TaskManager of a cancelled attempt has let go of it. */
function afterRelease(state: SchedulerState, context: SchedulerContext): Step {
  const { deployment, job } = state;
  if (deployment !== undefined && (!deployment.isCancelled || deployment.active.size > 0)) return [state, []];
  const executions = new Map(
    [...state.executions].map(([key, execution]): [string, ExecutionState] =>
      isExecutionTerminal(execution) ? [key, execution] : [key, executionTransition(execution, "CANCELED" as never)],
    ),
  );
  switch (job) {
    case "RESTARTING":
      if (deployment === undefined) return deployIfReady(state, context);
      return deployIfReady(withNextPlan({ ...state, deployment: undefined }), context);
    case "FAILING":
      return [{ ...state, deployment: undefined, executions }, [{ type: "close", as: "FAILED" }]];
    case "CANCELLING":
      return [{ ...state, deployment: undefined, executions }, [{ type: "close", as: "CANCELED" }]];
    default:
      return [state, []];
  }
}

/** The TaskManager's threads are gone: after a cancellation, after all its tasks finished, or before they did. */
function attemptEnded(state: SchedulerState, taskManagerId: string, context: SchedulerContext): Step {
  const { deployment } = state;
  const released = withoutActive(state, taskManagerId);
  if (deployment === undefined || deployment.isCancelled) return afterRelease(released, context);
  const unfinished = deployment.owners
    .flatMap((owner, slot) => (owner === taskManagerId ? subtasksOfSlot(state.plan, slot) : []))
    .find((subtask) => state.executions.get(subtaskKey(subtask)) !== "FINISHED");
  if (unfinished === undefined) return [released, []];
  const failure = new Failure("TASK_LOST", {
    retry: "backoff",
    message: `TaskManager ${taskManagerId} ended the attempt by itself`,
  });
  return attemptFailed(released, { failure, subtask: unfinished, taskManagerId }, context);
}

function lost(state: SchedulerState, taskManagerId: string, failure: Failure, context: SchedulerContext): Step {
  const taskManagers = new Map(state.taskManagers);
  taskManagers.delete(taskManagerId);
  const without = withoutActive({ ...state, taskManagers }, taskManagerId);
  const { deployment } = state;
  if (deployment === undefined || !deployment.active.has(taskManagerId)) return [without, []];
  const executions = new Map(without.executions);
  let first: SubtaskId | null = null;
  deployment.owners.forEach((owner, slot) => {
    if (owner !== taskManagerId) return;
    for (const subtask of subtasksOfSlot(state.plan, slot)) {
      const execution = executions.get(subtaskKey(subtask));
      if (execution === undefined || isExecutionTerminal(execution)) continue;
      executions.set(subtaskKey(subtask), executionTransition(execution, "FAILED" as never));
      first ??= subtask;
    }
  });
  return attemptFailed({ ...without, executions }, { failure, subtask: first, taskManagerId }, context);
}

function closed(state: SchedulerState, as: EndState): Step {
  const { job, failure } = state;
  if (as === "FINISHED") {
    if (job !== "RUNNING") return [state, []]; // suspended meanwhile
    return [{ ...state, job: jobTransition(job, as) }, [{ type: "jobEnded", as, failure: undefined }]];
  }
  if (as === "FAILED") {
    if (job !== "FAILING") return [state, []];
    return [{ ...state, job: jobTransition(job, as) }, [{ type: "jobEnded", as, failure }]];
  }
  if (job !== "CANCELLING") return [state, []];
  return [{ ...state, job: jobTransition(job, as) }, [{ type: "jobEnded", as, failure: undefined }]];
}

function moveAll(
  executions: SchedulerState["executions"],
  to: "SCHEDULED" | "DEPLOYING",
): ReadonlyMap<string, ExecutionState> {
  return new Map([...executions].map(([key, from]) => [key, executionTransition(from, to as never)]));
}

/** A new attempt has new executions. */
function newExecutions(plan: JobPlan): SchedulerState["executions"] {
  const executions = new Map<string, ExecutionState>();
  for (let slot = 0; slot < slotsRequired(plan); slot += 1)
    for (const subtask of subtasksOfSlot(plan, slot)) executions.set(subtaskKey(subtask), "CREATED");
  return executions;
}
