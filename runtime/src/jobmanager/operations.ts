// Operations on a running job (savepoint, stop, cancel ...): recorded before they begin, done once, their outcome remembered.
//
// Invariants: OP1-OP4 of checkpoint/operations.ts, and
//   OJ1. A runner is called only for an operation that the log holds, or that is harmless to repeat (cancel).
//   OJ2. An outcome is told only once it is recorded. A runner that is called again, by the next JobManager, must bear it.
//   OJ3. What follows an operation (the cancellation after a savepoint) begins with the record that holds its outcome: no JobManager that
//        dies in between forgets it.
//   OJ4. Without a store operations live as long as this process.
//   OJ5. Nothing begins behind the record of the job's end: nobody would ever settle it. Cancelling a cancelled job again is done at once.
//
// Not here: what operations do (runners, given by job-master.ts), their messages (rest/).

import { assert, AssertionError, Failure, failureToJson, planted, sleep, toFailure, withTimeout } from "@sluice/kit";
import type { Host, Log, Timers } from "@sluice/kit/env";
import { createHash } from "node:crypto";
import { findOperation, isEnded, settledAtEnd, withOutcome, withStarted } from "../checkpoint/index.ts";
import type {
  CommitLog,
  CommitRecord,
  OperationKind,
  OperationOutcome,
  OperationRequest,
  RecordedJobState,
  RecordedOperation,
  RecordedOperations,
} from "../checkpoint/index.ts";

/** Who asks waits so long for the record; the store may be away. */
const RECORD_TIMEOUT_MS = 10_000;
/** Cancelling is begun without a record after this long: repeating it is harmless, and its end is recorded with that of the job. */
const CANCEL_RECORD_TIMEOUT_MS = 1_000;
const SETTLE_AGAIN_MS = 1_000;
/** Of an operation's id, in hexadecimal. */
const ID_DIGITS = 32;

export interface OperationContext {
  readonly id: string;
  /** An earlier JobManager began it; how far it came is not known. */
  readonly isResumed: boolean;
  /** Begins another operation together with the outcome (OJ3): one that would settle this one otherwise. */
  readonly followedBy: (request: OperationRequest) => void;
}

/**
 * Does what was asked for. Resolves with the outcome, or with undefined when a record of the log settles the operation by itself;
 * a rejection is the outcome "failed".
 */
export type OperationRunner<K extends OperationKind = OperationKind> = (
  request: Extract<OperationRequest, { readonly kind: K }>,
  context: OperationContext,
) => Promise<OperationOutcome | undefined>;

/** By kind; what is missing is refused. */
export type OperationRunners = { readonly [K in OperationKind]?: OperationRunner<K> };

export interface OperationsOptions {
  readonly env: { readonly timers: Timers; readonly log: Log; readonly host: Host };
  readonly runners: OperationRunners;
  /** A newer JobManager owns the log. */
  readonly onFenced: (failure: Failure) => void;
}

export class Operations {
  readonly #options: OperationsOptions;
  readonly #started = Promise.withResolvers<void>();
  readonly #beginning = new Map<string, { readonly request: OperationRequest; readonly begun: Promise<void> }>();
  #log: CommitLog | undefined;
  #local: RecordedOperations = [];
  /** Of a job without a log, or one that had ended before. */
  #localState: RecordedJobState = "active";
  #isOver = false;

  constructor(options: OperationsOptions) {
    this.#options = options;
  }

  /** The log is claimed (or there is none): operations begin, those that an earlier JobManager left go on. */
  start(log: CommitLog | undefined): void {
    this.#log = log;
    this.#started.resolve();
    for (const op of this.#list) {
      if (planted("operation-not-resumed") || (op.request.kind === "cancel" && planted("cancel-not-resumed"))) continue;
      if (op.outcome === null) this.#guard(this.#run(op.id, op.request, true));
    }
  }

  /** Nothing is begun or recorded any more; what runs is settled as the end of the job says. */
  end(jobState: "stopped" | "finished" | "failed" | "cancelled" | undefined): void {
    this.#isOver = true;
    if (jobState === undefined) return;
    this.#local = settledAtEnd(this.#local, jobState);
    this.#localState = jobState;
  }

  /** The job had ended before: nothing begins (OJ5), but what was done is known. */
  endedBefore({ ops, jobState }: Pick<CommitRecord, "ops" | "jobState">): void {
    this.#local = ops;
    this.#localState = jobState;
    this.#isOver = true;
    this.#started.resolve();
  }

  find(id: string): RecordedOperation | undefined {
    return findOperation(this.#list, id);
  }

  /**
   * Resolves once the operation is recorded and begun, or has been before (OP1). Rejects with OPERATION_CONFLICT, with
   * CONFIG_NOT_IMPLEMENTED, or with a failure of the store: ask again under the same id.
   */
  async request(id: string, request: OperationRequest): Promise<void> {
    await withTimeout(this.#started.promise, this.#options.env.timers, RECORD_TIMEOUT_MS, () => {
      throw unavailable("the JobManager has not claimed the job's log yet");
    });
    const underWay = this.#beginning.get(id);
    if (underWay !== undefined) {
      withStarted([{ id, request: underWay.request, outcome: null }], id, request); // OP1
      await underWay.begun;
      return;
    }
    if (withStarted(this.#list, id, request) === this.#list && !planted("operation-begun-again")) return;
    if (this.#options.runners[request.kind] === undefined) {
      throw new Failure("CONFIG_NOT_IMPLEMENTED", {
        retry: "never",
        message: `this JobManager does not offer the operation "${request.kind}"`,
      });
    }
    const begun = this.#begin(id, request);
    this.#beginning.set(id, { request, begun });
    try {
      await begun;
    } finally {
      this.#beginning.delete(id);
    }
  }

  get #list(): RecordedOperations {
    return this.#log?.head.ops ?? this.#local;
  }

  async #begin(id: string, request: OperationRequest): Promise<void> {
    const isCancel = request.kind === "cancel";
    const recorded = this.#change((ops, jobState) => withBegun(ops, { id, request }, jobState));
    try {
      if (planted("operation-begun-before-record")) recorded.catch(() => {});
      else if (!isCancel) await recorded;
      else {
        await withTimeout(recorded, this.#options.env.timers, CANCEL_RECORD_TIMEOUT_MS, () => {
          throw unavailable("the store takes no record");
        });
      }
    } catch (thrown) {
      const failure = toFailure(thrown);
      const isRefused = failure.code === "OPERATION_CONFLICT" && failure.retry === "never";
      if (thrown instanceof AssertionError || !isCancel || isRefused || failure.code === "FENCED") throw thrown;
      this.#options.env.log.warn("cancelling without a record of who asked", { failure: failure.message }); // OJ1
    }
    const begun = this.find(id);
    if (begun === undefined || begun.outcome === null) this.#guard(this.#run(id, request, false)); // OJ5: else it is done already
  }

  async #run(id: string, request: OperationRequest, isResumed: boolean): Promise<void> {
    const { env, runners } = this.#options;
    const runner = runners[request.kind] as OperationRunner | undefined;
    env.log.info("operation", { operation: id, kind: request.kind, resumed: isResumed });
    let outcome: OperationOutcome | undefined;
    let next: OperationRequest | undefined;
    try {
      assert(runner !== undefined, "OJ1: an operation without a runner is never begun");
      outcome = await runner(request, { id, isResumed, followedBy: (after) => (next = after) });
    } catch (thrown) {
      if (thrown instanceof AssertionError) throw thrown;
      outcome = { type: "failed", failure: { ...failureToJson(toFailure(thrown)), stack: "" } };
    }
    if (outcome === undefined) return;
    const why = outcome.type === "failed" ? { code: outcome.failure.code, failure: outcome.failure.message } : {};
    env.log.info("operation ended", { operation: id, kind: request.kind, outcome: outcome.type, ...why });
    if (next === undefined || outcome.type === "failed") {
      await this.#settle((ops) => withOutcome(ops, id, outcome), id);
      return;
    }
    const follower = { id: followerId(id), request: next };
    if (planted("follower-begun-apart")) {
      await this.#settle((ops) => withOutcome(ops, id, outcome), id);
      await this.#change((ops) => withStarted(ops, follower.id, follower.request));
    }
    await this.#settle((ops) => withStarted(withOutcome(ops, id, outcome), follower.id, follower.request), id);
    if (this.find(follower.id)?.outcome === null) await this.#run(follower.id, follower.request, false); // OJ3
  }

  /** OJ2. */
  async #settle(change: (ops: RecordedOperations) => RecordedOperations, id: string): Promise<void> {
    while (!this.#isOver && this.find(id)?.outcome === null) {
      try {
        await this.#change((ops) => (findOperation(ops, id)?.outcome === null ? change(ops) : ops));
      } catch (thrown) {
        const failure = toFailure(thrown);
        if (thrown instanceof AssertionError || failure.code === "FENCED" || failure.code === "CANCELED") throw thrown;
        await sleep(this.#options.env.timers, SETTLE_AGAIN_MS);
      }
    }
  }

  async #change(change: (ops: RecordedOperations, jobState: RecordedJobState) => RecordedOperations): Promise<void> {
    const log = this.#log;
    if (log === undefined) {
      this.#local = change(this.#local, this.#localState);
      return;
    }
    const giveUp = new AbortController();
    const cancel = this.#options.env.timers.after(RECORD_TIMEOUT_MS, "record-operation", () => giveUp.abort());
    try {
      const outcome = await log.append((previous) => ({ ops: change(previous.ops, previous.jobState) }), giveUp.signal);
      if (outcome.type === "failed") throw outcome.failure;
    } finally {
      cancel();
    }
  }

  /** What runs ends in a record, or this JobManager ends. */
  #guard(task: Promise<void>): void {
    task.catch((thrown: unknown) => {
      if (thrown instanceof AssertionError) this.#options.env.host.crash(thrown.message);
      const failure = toFailure(thrown);
      if (failure.code === "FENCED" && !this.#isOver) this.#options.onFenced(failure);
    });
  }
}

/** OJ5. */
function withBegun(
  ops: RecordedOperations,
  { id, request }: Pick<RecordedOperation, "id" | "request">,
  jobState: RecordedJobState,
): RecordedOperations {
  const begun = withStarted(ops, id, request);
  if (begun === ops || !isEnded(jobState) || planted("operation-behind-the-end")) return begun;
  if (jobState === "cancelled" && request.kind === "cancel") return withOutcome(begun, id, { type: "done" });
  throw new Failure("OPERATION_CONFLICT", {
    retry: "never",
    message: `the job has ended (${jobState})`,
    remedy: "start it again, and ask its new run",
  });
}

/** Of what follows operation `id`: the same for every JobManager. */
function followerId(id: string): string {
  return createHash("sha256").update(`after ${id}`).digest("hex").slice(0, ID_DIGITS);
}

function unavailable(message: string): Failure {
  return new Failure("STORAGE_UNAVAILABLE", { retry: "backoff", message, remedy: "ask again under the same id" });
}
