// A JobManager process of the operations world: the real JobMaster over the real start of a job, as bin/run-jobmanager.ts does it.
//
// Invariants:
//   JP1. What somebody asks for goes the way of REST: an unknown operation of a job that has ended is refused (rest/handlers.ts).
//   JP2. The process ends when its job has ended and a while has passed, or when the JobMaster says that it may not go on.
//
// Not here: HTTP (its messages have tests of their own), who asks (users.ts).

import { isFailure, toFailure } from "@sluice/kit";
import type { Failure } from "@sluice/kit";
import type { OperationRequest, RecordedOperation } from "@sluice/runtime/internal/checkpoint";
import { claimJob, jobIdOf, JobMaster } from "@sluice/runtime/internal/jobmanager";
import type { JobManagerConfig, JobPlan } from "@sluice/runtime/internal/model";
import type { RuntimeSettings } from "@sluice/runtime/internal/model/configuration";
import type { SimEnv } from "../../index.ts";

/** A job that has ended is told of for so long. */
const LINGER_MS = 1_500;
const GONE: ReadonlySet<string> = new Set(["FENCED", "JOB_CLOSED", "JOB_FINISHED"]);
const ENDED = new Set(["FINISHED", "CANCELED", "FAILED"]);

export interface JobManagerProcessOptions {
  readonly env: SimEnv;
  readonly address: string;
  readonly secret: string;
  /** Which start of the job this is; its restarts have the same. */
  readonly submission: string;
  readonly plan: JobPlan;
  readonly settings: RuntimeSettings;
  readonly claimed: (epoch: number) => void;
  readonly exit: (reason: string) => void;
  readonly violate: (reason: string) => void;
}

export const NAMESPACE = "default";
export const JOB_NAME = "job";

/** Refused: this JobManager does not know the operation, and its job has ended. */
export type Answer = "accepted" | "refused" | Failure;

/** Savepoints of this world lie in its one store. */
const noOtherStore = (uri: string): Promise<never> => Promise.reject(new Error(`${uri} is not there`));

export class JobManagerProcess {
  readonly #options: JobManagerProcessOptions;
  readonly #config: JobManagerConfig;
  readonly master: JobMaster;
  #isLeaving = false;

  constructor(options: JobManagerProcessOptions) {
    const { env, settings, plan, submission, address, secret } = options;
    this.#options = options;
    this.#config = {
      jobName: JOB_NAME,
      namespace: NAMESPACE,
      uid: "uid",
      moduleUrl: "file:///job.js",
      planPath: "",
      configuration: {},
      store: undefined,
      rpcAddress: address,
      restAddress: "",
      start: { lineage: submission, newLineage: false, from: undefined, allowReplay: undefined },
      plantedBugs: [],
    };
    this.master = new JobMaster({
      env,
      rpc: {
        self: { role: "jobmanager", id: env.host.name },
        secret,
        heartbeat: { intervalMs: settings.heartbeatIntervalMs, timeoutMs: settings.heartbeatTimeoutMs },
      },
      jobId: jobIdOf(this.#config),
      plan,
      moduleUrl: this.#config.moduleUrl,
      settings,
      configuration: {},
      lineage: submission,
      allowReplay: undefined,
      onEnded: (as, message) => {
        if (as === "FAILED") options.violate(`OS9: the job failed: ${message}`);
        this.#exitLater(as); // JP2
      },
      onFatal: (failure) => {
        if (failure.retry !== "never") options.violate(`a JobManager ended in ${failure.code}: ${failure.message}`);
        options.exit(failure.code);
      },
    });
  }

  async run(): Promise<void> {
    const { env, settings, plan, address } = this.#options;
    await this.master.listen(address);
    try {
      const started = await claimJob({
        config: this.#config,
        plan,
        settings,
        store: env.store,
        openStore: noOtherStore,
        env,
        signal: new AbortController().signal,
      });
      if (this.#isLeaving) return;
      if (started.type === "ended") {
        this.master.endedBefore(started.state, env.store, started.record);
        this.#exitLater(started.state);
        return;
      }
      this.#options.claimed(started.storage.log.epoch);
      this.master.start(started.storage);
    } catch (thrown) {
      // Another submission has taken over or has ended the job for good, or the store is away: the supervisor tries again.
      const isExpected = isFailure(thrown) && (thrown.retry !== "never" || GONE.has(thrown.code));
      if (isExpected) return this.#options.exit(thrown.code);
      throw thrown;
    }
  }

  /** SIGTERM: the next JobManager continues the job. */
  async leave(): Promise<void> {
    this.#isLeaving = true;
    await this.master.suspend();
    this.#options.exit("suspended");
  }

  /** JP1. Asks for an operation. */
  async ask(id: string, request: OperationRequest): Promise<Answer> {
    if (this.hasEnded && request.kind === "cancel" && this.master.job().state === "CANCELED") return "accepted";
    if (this.hasEnded && this.master.operation(id) === undefined) return "refused";
    try {
      await this.master.startOperation(id, request);
      return "accepted";
    } catch (thrown) {
      return toFailure(thrown);
    }
  }

  get hasEnded(): boolean {
    return ENDED.has(this.master.job().state);
  }

  find(id: string): RecordedOperation | undefined {
    return this.master.operation(id);
  }

  #exitLater(as: string): void {
    this.#options.env.timers.after(LINGER_MS, "linger", () => this.#options.exit(as));
  }
}
