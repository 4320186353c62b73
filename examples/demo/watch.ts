// The job as its REST interface shows it, asked again and again; it survives the death of the JobManager.
//
// Invariants:
//   WA1. A question that nobody answers changes nothing: the last picture stays until there is a new one.
//   WA2. Waiting ends when the condition holds, when the job has ended, or when the time is over.

import { setTimeout as sleep } from "node:timers/promises";

import type { CheckpointingMessage, JobDetailsMessage, JobExceptionsMessage } from "@sluice/api";
import type { LocalCluster } from "@sluice/cli";
import { Failure } from "@sluice/kit";

const INTERVAL_MS = 100;
const WAIT_MAX_MS = 60_000;

export interface Picture {
  readonly job: JobDetailsMessage;
  readonly checkpoints: CheckpointingMessage;
  readonly exceptions: JobExceptionsMessage;
  /** Rows that the sources have emitted in this attempt of the job. */
  readonly rowsRead: number;
  readonly areAllTasksRunning: boolean;
}

export class Watch {
  readonly #cluster: LocalCluster;
  readonly #onPicture: (picture: Picture) => void;
  readonly #loop: Promise<void>;
  #stopped = false;
  #picture: Picture | undefined;

  constructor(cluster: LocalCluster, onPicture: (picture: Picture) => void) {
    this.#cluster = cluster;
    this.#onPicture = onPicture;
    this.#loop = this.#run();
  }

  /** The first true value of `look` at the newest picture, which may be undefined. Rejects when the job ends before (WA2). */
  async until<T>(what: string, look: (picture: Picture | undefined) => T | undefined | false): Promise<T> {
    const deadlineMs = performance.now() + WAIT_MAX_MS;
    for (;;) {
      const value = look(this.#picture);
      if (value !== undefined && value !== false) return value;
      const { outcome } = this.#cluster;
      const isLate = performance.now() > deadlineMs;
      if (outcome !== undefined || isLate) {
        const why = outcome === undefined ? `${WAIT_MAX_MS / 1_000} s are over` : outcome.message;
        throw new Failure("INTERNAL", {
          retry: "never",
          message: `the demo waited in vain for ${what}: ${why}`,
          remedy: "If the job was just too fast for its faults, lower --rate; else look into the logs.",
        });
      }
      await sleep(INTERVAL_MS / 5);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { rest } = this.#cluster;
    while (!this.#stopped && this.#cluster.outcome === undefined) {
      try {
        const [job, checkpoints, exceptions] = await Promise.all([rest.job(), rest.checkpoints(), rest.exceptions()]);
        this.#picture = pictureOf(job, checkpoints, exceptions);
        this.#onPicture(this.#picture);
      } catch {
        // WA1
      }
      await sleep(INTERVAL_MS);
    }
  }
}

function pictureOf(
  job: JobDetailsMessage,
  checkpoints: CheckpointingMessage,
  exceptions: JobExceptionsMessage,
): Picture {
  const sources = new Set(job.plan.nodes.filter((node) => node.inputs === undefined).map((node) => node.id));
  let [rowsRead, running, tasks] = [0, 0, 0];
  for (const vertex of job.vertices) {
    if (sources.has(vertex.id)) rowsRead += vertex.metrics["write-records"];
    running += vertex.tasks.RUNNING + vertex.tasks.FINISHED;
    tasks += vertex.parallelism;
  }
  return { job, checkpoints, exceptions, rowsRead, areAllTasksRunning: running === tasks };
}
