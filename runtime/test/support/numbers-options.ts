// What the numbers job is told, as its only argument.

/** What goes wrong in it, unless `cureFile` exists. */
export const MISHAPS = [
  "none",
  "throw-in-main",
  "loop-in-main",
  "hang-in-main",
  "duplicate-uids",
  "missing-uid",
  "throw-in-function",
  "promise-from-function",
  "exit-in-function",
  "loop-in-function",
] as const;

export type Mishap = (typeof MISHAPS)[number];

export interface NumbersOptions {
  /** NDJSON files of InputRecord (kills/model.ts). */
  readonly inputPath: string;
  readonly outputDirectory: string;
  /** "": malformed records fail the job; else they go to this directory as dead letters. */
  readonly deadLetterDirectory: string;
  readonly mishap: Mishap;
  /** The input position at which a mishap of a function happens. */
  readonly mishapAt: number;
  readonly cureFile: string;
  /** Of each subtask; Infinity is written as 0. */
  readonly perSecond: number;
  /** When it exists the job runs at full speed (pace.ts). */
  readonly drainFile: string;
  /** Adds a second sink whose output nobody can take back. */
  readonly withFinalSink: boolean;
}

const DEFAULTS = {
  deadLetterDirectory: "",
  mishap: "none",
  mishapAt: 0,
  cureFile: "/nonexistent/cure",
  perSecond: 0,
  drainFile: "/nonexistent/drain",
  withFinalSink: false,
} as const satisfies Partial<NumbersOptions>;

export function encodeNumbers(
  options: Pick<NumbersOptions, "inputPath" | "outputDirectory"> & Partial<NumbersOptions>,
): string {
  return JSON.stringify({ ...DEFAULTS, ...options });
}

export function decodeNumbers(args: readonly string[]): NumbersOptions {
  return { ...DEFAULTS, ...(JSON.parse(args[0] ?? "{}") as NumbersOptions) };
}
