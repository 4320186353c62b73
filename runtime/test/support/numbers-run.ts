// A directory with inputs, output and checkpoints of the numbers job, and clusters that run it there one after the other.
//
// Invariants:
//   NR1. Whatever a test does, `dispose` leaves no process and no file behind.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { startLocalCluster } from "@sluice/cli";
import type { LocalCluster, LocalClusterOptions } from "@sluice/cli";

import { audit, parseOutput } from "../kills/auditor.ts";
import type { Audit } from "../kills/auditor.ts";
import { drawInputs, expectationOf, toNdjson } from "../kills/model.ts";
import type { Expectation } from "../kills/model.ts";
import { encodeNumbers } from "./numbers-options.ts";
import type { NumbersOptions } from "./numbers-options.ts";
import { publishedFiles, publishedText } from "./published.ts";

export const NUMBERS_JOB = fileURLToPath(new URL("./numbers-job.ts", import.meta.url));

/**
 * Quick checkpoints, restarts without end. A process that dies is noticed by its connections; one that a busy machine holds up for a
 * while is not given up.
 */
export const QUICK: Readonly<Record<string, string>> = {
  "parallelism.default": "2",
  "execution.checkpointing.interval": "200 ms",
  "execution.checkpointing.min-pause": "50 ms",
  "restart-strategy.type": "fixed-delay",
  "restart-strategy.fixed-delay.attempts": "1000",
  "restart-strategy.fixed-delay.delay": "50 ms",
  "heartbeat.interval": "200 ms",
  "heartbeat.timeout": "10 s",
};

export interface NumbersRunOptions {
  readonly seed: number;
  readonly count: number;
  /** Default: a directory of the run. */
  readonly storeUri?: string;
}

export class NumbersRun {
  readonly directory: string;
  readonly name: string;
  readonly storeUri: string;
  readonly expected: Expectation;
  readonly #clusters: LocalCluster[] = [];

  constructor(options: NumbersRunOptions) {
    const { seed, count } = options;
    this.directory = mkdtempSync(join(tmpdir(), "sluice-numbers-"));
    this.name = `numbers-${seed}`;
    this.storeUri = options.storeUri ?? pathToFileURL(this.at("checkpoints")).href;
    const inputs = drawInputs(seed, { floodCount: count, trickleCount: 0, keyCount: 20 });
    this.expected = expectationOf(inputs);
    writeFileSync(this.at("input.ndjson"), toNdjson(inputs.flood));
  }

  at(...names: readonly string[]): string {
    return join(this.directory, ...names);
  }

  get outputDirectory(): string {
    return this.at("output");
  }

  /** The job's argument. */
  argument(options: Partial<NumbersOptions> = {}): string {
    return encodeNumbers({
      inputPath: this.at("input.ndjson"),
      outputDirectory: this.outputDirectory,
      drainFile: this.at("drain"),
      perSecond: 0,
      sourcePerSecond: 0,
      withFinalSink: false,
      ...options,
    });
  }

  async start(
    options: Partial<NumbersOptions> = {},
    cluster: Partial<LocalClusterOptions> = {},
  ): Promise<LocalCluster> {
    const started = await startLocalCluster({
      job: NUMBERS_JOB,
      arguments: [this.argument(options)],
      name: this.name,
      workDir: this.at("work"),
      taskManagers: 2,
      slots: 1,
      ...cluster,
      env: { NODE_OPTIONS: "", ...cluster.env },
      configuration: { ...QUICK, "execution.checkpointing.dir": this.storeUri, ...cluster.configuration },
    });
    this.#clusters.push(started);
    return started;
  }

  /** From here on the job runs at full speed. */
  drain(): void {
    writeFileSync(this.at("drain"), "");
  }

  get publishedFileCount(): number {
    return publishedFiles(this.outputDirectory).length;
  }

  /** Exactly-once: the published output against the model. */
  audit(): Audit {
    return audit(this.expected, parseOutput(publishedText(this.outputDirectory), this.outputDirectory), "exactly-once");
  }

  /** Remembers how the directory is now, with nothing running: {@link back} makes it so again, as often as it is called. */
  keep(): void {
    rmSync(this.#keptDirectory, { recursive: true, force: true });
    cpSync(this.directory, this.#keptDirectory, { recursive: true, preserveTimestamps: true });
  }

  /** Ends what runs. Only for stores in the directory. */
  async back(): Promise<void> {
    for (const cluster of this.#clusters.splice(0)) await cluster.stop(0);
    rmSync(this.directory, { recursive: true, force: true });
    cpSync(this.#keptDirectory, this.directory, { recursive: true, preserveTimestamps: true });
  }

  get #keptDirectory(): string {
    return `${this.directory}-kept`;
  }

  async dispose(): Promise<void> {
    for (const cluster of this.#clusters) await cluster.stop(0);
    rmSync(this.#keptDirectory, { recursive: true, force: true });
    if (process.env["SLUICE_KEEP"] === undefined) rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Waits until this many checkpoints were committed by the JobManager that runs. */
export async function untilCompleted(cluster: LocalCluster, count: number): Promise<number> {
  return await cluster.until(
    `${count} checkpoints are committed`,
    async () => {
      const { counts, latest } = await cluster.rest.checkpoints();
      return counts.completed >= count ? latest.completed?.id : undefined;
    },
    { timeoutMs: 60_000 },
  );
}

/** Waits for the end and gives the outcome; a job that does not end is an error. */
export async function endOf(cluster: LocalCluster): Promise<NonNullable<LocalCluster["outcome"]>> {
  await cluster.until("the job ends", () => cluster.outcome !== undefined, { timeoutMs: 90_000 });
  return await cluster.waitForEnd();
}
