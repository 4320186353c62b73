// What a kills run tells its job, as the job's only argument.

export interface KeyedSumOptions {
  /** NDJSON file of InputRecord. */
  readonly floodPath: string;
  /** CSV file of InputRecord. */
  readonly tricklePath: string;
  readonly outputDirectory: string;
  readonly witnessDirectory: string;
  /** When it exists the job runs at full speed (pace.ts). */
  readonly drainFile: string;
  /** How the two inputs meet: `union` before one keyed function, or `connect` into one with two inputs. */
  readonly shape: "union" | "connect";
  readonly tricklePerSecond: number;
  /** Of each subtask of the sum. */
  readonly sumPerSecond: number;
  /**
   * Bytes added to each record of the flood on its way: a channel then holds few of them, and a barrier behind a full channel
   * waits some hundred milliseconds, not many seconds.
   */
  readonly paddingBytes: number;
}

export function encodeOptions(options: KeyedSumOptions): string {
  return JSON.stringify(options);
}

export function decodeOptions(args: readonly string[]): KeyedSumOptions {
  return JSON.parse(args[0] ?? "{}") as KeyedSumOptions;
}
