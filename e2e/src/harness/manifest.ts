// The StreamJobs that the scenarios apply.

import { readFileSync } from "node:fs";
import { join } from "node:path";

const LEDGER_JOB = join(import.meta.dirname, "../../jobs/ledger.ts");

/** Key count of all ledgers: a multiple of every parallelism up to 6. */
export const LEDGER_KEYS = 60;

export interface StreamJobManifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

export function ledgerSource(): string {
  return readFileSync(LEDGER_JOB, "utf8");
}

export interface LedgerOptions {
  readonly output: string;
  readonly count: number;
  readonly rate: number;
  readonly version?: string;
  /** The job throws from this record on. */
  readonly throwAt?: number;
  /** The job allocates memory without end at this record, the first time. */
  readonly exhaustAt?: number;
  /** It does so from this record on, again and again. */
  readonly crashFrom?: number;
}

export function ledgerArgs(given: LedgerOptions): readonly string[] {
  const { output, count, rate, version = "v1", throwAt = -1, exhaustAt = -1, crashFrom = -1 } = given;
  const options = { output, count, rate, keys: LEDGER_KEYS, version, throwAt, exhaustAt, crashFrom };
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

/** Small pods: many jobs run at once on few processors. */
export const RESOURCES = {
  jobManager: { resources: { cpu: "100m", memory: "384Mi" } },
  taskManager: { resources: { cpu: "150m", memory: "640Mi" }, slots: 1 },
} as const;
