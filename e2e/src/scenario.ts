// What a scenario is, and what it has to do its work: a namespace of its own, jobs, ledgers, and a place for what it found.
//
// Invariants:
//   SC1. A scenario that moves records audits them, and runs the control of the auditor on the same ledger.
//   SC2. A fault counts with its proof, and with at least CROSSING_MIN records of which some were published before it and some after.
//   SC3. Times are reported beside their goals; they fail nothing, because the machine may be busy.

import { setTimeout as sleep } from "node:timers/promises";

import { JobHandle, LEDGER_KEYS, RESOURCES, containerOf, ledgerArgs, ledgerSource } from "./harness/index.ts";
import type { World } from "./harness/index.ts";
import { auditLedger, auditTheAuditor, damageLedger, lineageOf, outageAt, recordsPerVersion } from "./ledger/index.ts";
import type { Damage, LedgerAudit, LedgerFile, Outage } from "./ledger/index.ts";

export const CROSSING_MIN = 100_000;
/** Of either side of a fault. */
const SIDE_MIN = 10_000;
/** No line of a ledger is longer. */
const LINE_BYTES_MAX = 64;
const VISIBLE_TIMEOUT_MS = 240_000;
const LOOK_INTERVAL_MS = 400;

export interface Scenario {
  readonly name: string;
  readonly about: string;
  /** "quiet": measures, or takes something away that all need: nothing else runs beside it. */
  readonly lane: "parallel" | "quiet";
  readonly run: (context: Context) => Promise<void>;
}

export interface Measurement {
  readonly name: string;
  readonly ms: number;
  readonly goalMs?: number;
}

export interface AuditRow {
  readonly what: string;
  readonly audit: LedgerAudit;
}

export interface Findings {
  readonly proofs: string[];
  readonly audits: AuditRow[];
  readonly measurements: Measurement[];
}

export interface ContextOptions {
  readonly world: World;
  readonly namespace: string;
  /** Picks the records that the control damages. */
  readonly seed: number;
  /** `--control`: every audit sees a damaged ledger, so that it must fail. */
  readonly control: Damage | undefined;
}

export class Context {
  readonly world: World;
  readonly namespace: string;
  readonly findings: Findings = { proofs: [], audits: [], measurements: [] };
  readonly jobs: JobHandle[] = [];
  readonly #options: ContextOptions;

  constructor(options: ContextOptions) {
    this.#options = options;
    this.world = options.world;
    this.namespace = options.namespace;
  }

  /** What has been proven to have happened. */
  proof(text: string): void {
    this.findings.proofs.push(text);
    this.world.say(`${this.namespace}: ${text}`);
  }

  measure(name: string, ms: number | undefined, goalMs?: number): void {
    if (ms === undefined) throw new Error(`${name} could not be measured`);
    this.findings.measurements.push({ name, ms, ...(goalMs === undefined ? {} : { goalMs }) });
    this.world.say(`${this.namespace}: ${name}: ${(ms / 1000).toFixed(2)} s`);
  }

  check(isTrue: boolean, what: string): void {
    if (!isTrue) throw new Error(what);
  }

  /** Where this run keeps data of a job. */
  place(kind: string): string {
    return `${this.world.runId}/${this.namespace}/${kind}`;
  }

  uri(kind: string): string {
    return `s3://${this.world.store.bucket}/${this.place(kind)}`;
  }

  /** Another StreamJob of this namespace, with what all have; nothing is applied yet. */
  streamJob(name: string, spec: Readonly<Record<string, unknown>>): JobHandle {
    const { store, image } = this.world;
    const job = new JobHandle(this.world, {
      apiVersion: "sluice.dev/v1alpha1",
      kind: "StreamJob",
      metadata: { name, namespace: this.namespace },
      spec: {
        image,
        imagePullPolicy: "IfNotPresent",
        parallelism: 2,
        checkpointing: { dir: this.uri("checkpoints"), interval: "1s" },
        objectStore: { endpoint: store.endpoint, region: store.region, secretRef: { name: "minio" } },
        ...RESOURCES,
        ...spec,
      },
    });
    this.jobs.push(job);
    return job;
  }

  /** A job of numbered records and the ledger that it writes. */
  ledger(name: string, options: LedgerJobOptions): LedgerJob {
    return new LedgerJob(this, name, options);
  }

  get options(): ContextOptions {
    return this.#options;
  }
}

/** More than any scenario has time for: such a job is stopped, it does not finish. */
export const ENDLESS = 50_000_000;
/**
 * A version that is to finish reads at this rate; what came before it reads slowly, because a machine that takes its time
 * for a fault must still find records left after it.
 */
export const FINISH_RATE = 40_000;

export interface LedgerJobOptions {
  readonly count: number;
  /** The ledger that it goes on with, when that is another job's: its name. */
  readonly output?: string;
  /** Records per second of the whole job. */
  readonly rate?: number;
  readonly parallelism?: number;
  readonly spec?: Readonly<Record<string, unknown>>;
}

/** What one version of a ledger job has for itself. */
export interface VersionOptions {
  readonly count?: number;
  /** Records per second of the whole job. */
  readonly rate?: number;
  /** The job throws from this record on. */
  readonly throwAt?: number;
  /** The job allocates memory without end at this record, the first time. */
  readonly exhaustAt?: number;
  /** It does so from this record on, again and again. */
  readonly crashFrom?: number;
}

export class LedgerJob {
  readonly job: JobHandle;
  readonly #context: Context;
  readonly #name: string;
  readonly #output: string;
  readonly #count: number;
  readonly #rate: number;
  /** Parallelism of the first start: the number of the source's splits. */
  readonly #splits: number;

  constructor(context: Context, name: string, options: LedgerJobOptions) {
    const { count, rate = 6_000, parallelism = 2, output = name, spec = {} } = options;
    this.#context = context;
    this.#name = name;
    this.#output = `${output}-out`;
    this.#count = count;
    this.#rate = rate;
    this.#splits = parallelism;
    this.job = context.streamJob(name, { job: { inline: ledgerSource() }, parallelism, ...this.args("v1"), ...spec });
  }

  /** `args` of a version, to be applied; count and rate are the first version's, where it has none of its own. */
  args(version: string, more: VersionOptions = {}): { readonly args: readonly string[] } {
    const output = this.#context.uri(this.#output);
    return { args: ledgerArgs({ output, count: this.#count, rate: this.#rate, version, ...more }) };
  }

  /** Applies the job, waits until it is stable and has published so many records. The result: when it was applied. */
  async start(records: number): Promise<number> {
    const appliedMs = await this.job.apply();
    await this.job.untilStable();
    await this.untilVisible(records);
    return appliedMs;
  }

  /** Waits until at least so many records are published. */
  async untilVisible(records: number): Promise<void> {
    const { bucket } = this.#context.world;
    const endMs = performance.now() + VISIBLE_TIMEOUT_MS;
    while ((await bucket.sizeBytes(this.#prefix)) < records * LINE_BYTES_MAX) {
      if (performance.now() > endMs) {
        throw new Error(`${records} records of ${this.#name} were not published in time; ${this.job.describe()}`);
      }
      await sleep(LOOK_INTERVAL_MS);
    }
  }

  get #prefix(): string {
    return `${this.#context.place(this.#output)}/`;
  }

  async read(): Promise<readonly LedgerFile[]> {
    return await this.#context.world.bucket.read(this.#prefix);
  }

  /** Waits for the end of the job and audits all of its ledger (SC1). `count`: that of the version which finishes. */
  async finishAndAudit(count: number = this.#count): Promise<readonly LedgerFile[]> {
    await this.job.untilLifecycle("Finished");
    return await this.audit(count);
  }

  /**
   * Waits until so many records are published, and enough of them since now (SC2), stops the job with a savepoint, which publishes all that was emitted, and audits.
   * Not for jobs whose upgradeMode takes no savepoint: their last output waits in their last checkpoint.
   */
  async stopAndAudit(records: number): Promise<readonly LedgerFile[]> {
    const published = (await this.#context.world.bucket.sizeBytes(this.#prefix)) / LINE_BYTES_MAX;
    await this.untilVisible(Math.max(records, published + 2 * SIDE_MIN));
    await this.job.apply({ state: "Suspended" });
    await this.job.untilLifecycle("Suspended");
    return await this.audit(undefined);
  }

  /** SC1. `count` undefined: the job was stopped somewhere. */
  async audit(count: number | undefined, from?: readonly LedgerFile[], about = ""): Promise<readonly LedgerFile[]> {
    const { seed, control } = this.#context.options;
    const whole = from ?? (await this.read());
    const files = control === undefined ? whole : damageLedger(whole, control, seed);
    const expected = { keys: LEDGER_KEYS, count, splits: this.#splits };
    const audit = auditLedger(files, expected);
    this.#context.findings.audits.push({ what: `${this.#name}${about}`, audit });
    if (!audit.passed) throw new Error(`the ledger of ${this.#name}${about} is wrong: ${audit.problems.join("; ")}`);
    const missed = auditTheAuditor(files, expected, seed);
    if (missed.length > 0) throw new Error(`the auditor is blind: ${missed.join("; ")}`);
    return files;
  }

  /** Where a job that was stopped goes on: all numbers below are published, if its ledger has passed (AL1). */
  static records(files: readonly LedgerFile[]): number {
    return files.reduce((sum, { text }) => sum + text.split("\n").filter((line) => line !== "").length, 0);
  }

  /** Lineages of the published files: more than one after a Stateless upgrade. */
  static lineages(files: readonly LedgerFile[]): ReadonlyMap<string, readonly LedgerFile[]> {
    return Map.groupBy(files, lineageOf);
  }

  /**
   * SC1, of a ledger that was begun anew: each part must be whole by itself, and none may have replaced a file of another.
   * @param by what tells the parts: starts without state have each a lineage; or a version of the job that keeps the lineage.
   * @param expected for each part the versions that wrote it ("v1", "v1+v2"), and how many numbers it has; undefined: it was stopped.
   */
  async auditParts(
    by: "lineage" | "version",
    expected: Readonly<Record<string, number | undefined>>,
  ): Promise<readonly LedgerFile[]> {
    const files = await this.read();
    const versionsOf = (some: readonly LedgerFile[]): string => [...recordsPerVersion(some).keys()].join("+");
    const grouped = Map.groupBy(files, (file) => (by === "lineage" ? lineageOf(file) : versionsOf([file])));
    const parts = [...grouped.values()].map((written) => [versionsOf(written), written] as const);
    const names = parts.map(([versions]) => versions).toSorted();
    if (names.join() !== Object.keys(expected).toSorted().join())
      throw new Error(`each ${by} was written by ${names.join(", ")}, not by ${Object.keys(expected).join(", ")}`);
    for (const [versions, written] of parts) await this.audit(expected[versions], written, ` ${versions}`);
    this.#context.proof(`the output of ${names.join(" and that of ")} is whole by itself, each a ${by} of its own`);
    return files;
  }

  /** SC2. Records were published before and after the fault, enough of them. */
  crossed(files: readonly LedgerFile[], faultMs: number, what: string): Outage {
    const outage = outageAt(files, faultMs);
    const { recordsBefore, recordsAfter } = outage;
    const isCrossed =
      recordsBefore >= SIDE_MIN && recordsAfter >= SIDE_MIN && recordsBefore + recordsAfter >= CROSSING_MIN;
    if (!isCrossed) {
      throw new Error(
        `${what}: ${recordsBefore} records before it and ${recordsAfter} after it are too few to prove anything`,
      );
    }
    this.#context.proof(`${what}: ${recordsBefore} records published before it, ${recordsAfter} after it`);
    return outage;
  }

  /** Uids and restarts of the living pods: the same text means the same processes. */
  processes(): string {
    return (["jobmanager", "taskmanager"] as const)
      .flatMap((component) => this.job.pods(component))
      .map((pod) => `${pod.metadata.name}=${pod.metadata.uid}/${containerOf(pod)?.restartCount ?? 0}`)
      .toSorted()
      .join(" ");
  }
}
