// What the numbers job is told, as its only argument.

export interface NumbersOptions {
  /** NDJSON file of InputRecord (kills/model.ts). */
  readonly inputPath: string;
  readonly outputDirectory: string;
  /** Of each subtask; 0: as fast as it goes. */
  readonly perSecond: number;
  /**
   * Of each subtask of the source, before anything is sent: channels stay empty, and barriers get through at once. 0: as fast as
   * it goes.
   */
  readonly sourcePerSecond: number;
  /** When it exists the job runs at full speed (pace.ts). */
  readonly drainFile: string;
  /** Adds a second sink whose output nobody can take back. */
  readonly withFinalSink: boolean;
  /** Of the keyed operator; default "sum". */
  readonly sumUid?: string;
}

export function encodeNumbers(options: NumbersOptions): string {
  return JSON.stringify(options);
}

export function decodeNumbers(args: readonly string[]): NumbersOptions {
  return JSON.parse(args[0] ?? "{}") as NumbersOptions;
}
