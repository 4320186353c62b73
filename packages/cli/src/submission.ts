// From what the user typed to what the processes are started with: job module, plan, effective configuration, places.
//
// Invariants:
//   SU1. Everything that can be wrong with the input is found here, before any process of the job runs.
//   SU2. The same job under the same name has the same identity on every run; another module under that name has another.
//   SU3. A run's lineage is drawn once, or named by whoever starts it, and given to every JobManager of the run.
//
// Not here: starting anything but the plan process (local-cluster.ts).

import { createHash, randomBytes } from "node:crypto";
import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, extname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { Failure } from "@sluice/kit";
import { runPlanProcess } from "@sluice/runtime/internal/bin";
import {
  configurationOf,
  parseConfiguration,
  PipelineOptions,
  ProcessOptions,
  runtimeSettings,
  TaskManagerOptions,
} from "@sluice/runtime/internal/model";
import type { JobPlan, RuntimeSettings, StoreConfig } from "@sluice/runtime/internal/model";

export interface SubmissionRequest {
  /** Path or file: URL of the job's module. */
  readonly job: string;
  readonly arguments: readonly string[];
  /** Undefined: what the job calls itself, else its file's name. */
  readonly name: string | undefined;
  /** As given by -D and options of the command line. */
  readonly configuration: Readonly<Record<string, string>>;
  readonly taskManagers: number;
  /** Undefined: as configured, else as many as the job needs. */
  readonly slots: number | undefined;
  /** Undefined: `.sluice/<name>` in the current directory. */
  readonly workDir: string | undefined;
  readonly newLineage: boolean;
  readonly from: string | undefined;
  /** The same for every start that means the same run (a supervisor's command); undefined: drawn. */
  readonly lineage: string | undefined;
}

export interface Submission {
  readonly name: string;
  readonly uid: string;
  readonly lineage: string;
  readonly moduleUrl: string;
  readonly plan: JobPlan;
  /** Effective, for all processes. */
  readonly configuration: Readonly<Record<string, string>>;
  readonly settings: RuntimeSettings;
  /** What was said that changes nothing, for people. */
  readonly warnings: readonly string[];
  readonly store: StoreConfig | undefined;
  /** True when nobody said where checkpoints go and they lie in the work directory. */
  readonly isDefaultStore: boolean;
  readonly workDir: string;
  readonly taskManagers: number;
  readonly slots: number;
  /** Where REST listens, as it stands before the port in an address. */
  readonly restHost: string;
  /** Of the first TaskManager's /metrics; undefined for any free port. */
  readonly metricsPort: number | undefined;
  /** What `main` printed. */
  readonly mainOutput: string;
}

const NAMESPACE = "default";

/** Rejects with the Failure that tells what is wrong: configuration, module, `main`, graph, slots. */
export async function prepareSubmission(request: SubmissionRequest): Promise<Submission> {
  const entries = Object.entries(request.configuration);
  const typed = parseConfiguration(entries.map(([key, value]) => ({ key, value, origin: "command line" })));
  const before = runtimeSettings(typed); // contradictions are told before user code runs
  if (before.claimMode === "CLAIM" && (request.from ?? before.restorePath) === undefined) throw nothingToClaim();
  const moduleUrl = findModule(request.job);
  const wanted = request.name ?? typed.get(PipelineOptions.NAME);
  if (wanted !== undefined) checkName(wanted);
  const { plan: made, output } = await runPlanProcess({
    moduleUrl,
    arguments: request.arguments,
    configuration: typed.toRecord(),
    jobName: wanted ?? baseName(moduleUrl),
    timeoutMs: before.planTimeoutMs,
  });
  const name = wanted ?? made.jobName;
  checkName(name);
  const plan: JobPlan = { ...made, jobName: name };
  // The plan holds the module's configuration over ours: CF2.
  const effective = configurationOf({ ...typed.toRecord(), ...plan.configuration });
  const settings = runtimeSettings(effective);
  const workDir = resolve(request.workDir ?? join(".sluice", name));
  const needsStore = settings.checkpoints.intervalMs !== null;
  const isDefaultStore = needsStore && settings.store === undefined;
  const { taskManagers } = request;
  const slots =
    request.slots ??
    (effective.isSet(TaskManagerOptions.NUM_TASK_SLOTS)
      ? settings.slotsPerTaskManager
      : Math.ceil(slotsNeeded(plan) / taskManagers));
  checkSlots(plan, { taskManagers, slots });
  return {
    name,
    uid: identityOf(moduleUrl),
    lineage: lineageOf(request.lineage),
    moduleUrl,
    plan,
    configuration: effective.toRecord(),
    settings,
    warnings: [...new Set([...typed.warnings, ...settings.warnings])], // keys that change nothing are not among the effective ones
    store: isDefaultStore ? { uri: pathToFileURL(join(workDir, "checkpoints")).href } : settings.store,
    isDefaultStore,
    workDir,
    taskManagers,
    slots,
    restHost: hostInAddress(effective.get(ProcessOptions.REST_ADDRESS)),
    metricsPort: effective.get(ProcessOptions.PROMETHEUS_PORT),
    mainOutput: output,
  };
}

/** Namespace of all jobs of the command line in a checkpoint store. */
export function submissionNamespace(): string {
  return NAMESPACE;
}

/** Slot i runs subtask i of every vertex. */
function slotsNeeded(plan: JobPlan): number {
  return Math.max(1, ...plan.vertices.map((vertex) => vertex.parallelism));
}

function checkSlots(plan: JobPlan, offered: { readonly taskManagers: number; readonly slots: number }): void {
  const needed = slotsNeeded(plan);
  const total = offered.taskManagers * offered.slots;
  if (total >= needed) return;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `the job needs ${needed} slots (its highest parallelism), and ${offered.taskManagers} TaskManagers with ${offered.slots} slots each have ${total}`,
    remedy: "Give more with --task-managers or --slots, or lower --parallelism.",
  });
}

/** Ignoring it would leave its owner in the belief that the savepoint is deleted one day. */
function nothingToClaim(): Failure {
  return new Failure("CONFIG_INVALID", {
    retry: "never",
    message: "claim mode CLAIM says who owns what a job starts from, and nothing is named to start from",
    remedy: "Name it with --from, or leave the claim mode out: what a job goes on from by itself is its own.",
  });
}

export function findModule(job: string): string {
  const path = job.startsWith("file:") ? fileURLToPath(job) : resolve(job);
  if (!existsSync(path)) {
    throw new Failure("JOB_MODULE_NOT_FOUND", {
      retry: "never",
      message: `there is no file ${path}`,
      remedy: "Give the path of the job's module, for example: sluice run jobs/sum.ts",
    });
  }
  if (!statSync(path).isFile() || ![".ts", ".mts", ".js", ".mjs"].includes(extname(path))) {
    throw new Failure("JOB_MODULE_INVALID", {
      retry: "never",
      message: `${path} is not a TypeScript or JavaScript module`,
      remedy: "Give a file that ends in .ts, .mts, .js or .mjs and exports a function main.",
    });
  }
  return pathToFileURL(realpathSync(path)).href;
}

export function baseName(moduleUrl: string): string {
  return basename(fileURLToPath(moduleUrl)).replace(/\.[^.]+$/, "");
}

function hostInAddress(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

function checkName(name: string): void {
  if (/^[\w][\w .-]{0,99}$/u.test(name)) return;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `"${name}" cannot be the name of a job: it names directories`,
    remedy: "Use up to 100 letters, digits, blanks, '-', '_' and '.', beginning with a letter or digit.",
  });
}

/** SU3. It becomes part of file names and of paths. */
function lineageOf(named: string | undefined): string {
  if (named === undefined) return randomBytes(6).toString("hex");
  if (/^[\w][\w-]{0,62}$/u.test(named)) return named;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `"${named}" cannot be the id of a lineage: it is part of the names of output files`,
    remedy: "Use up to 63 letters, digits, '-' and '_', beginning with a letter or digit.",
  });
}

/** SU2. */
function identityOf(moduleUrl: string): string {
  return `cli-${createHash("sha256").update(moduleUrl).digest("hex").slice(0, 24)}`;
}
