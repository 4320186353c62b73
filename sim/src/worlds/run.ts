// What one run of a world takes and gives.

export interface RunOptions {
  readonly seed: number;
  /** Names of planted bugs (kit/planted.ts). */
  readonly planted: readonly string[];
  /** Keep the whole trace instead of its end. */
  readonly keepsTrace: boolean;
}

export interface RunResult {
  readonly seed: number;
  /** The broken invariant; undefined: the seed passed. */
  readonly failure: string | undefined;
  readonly hash: number;
  readonly eventCount: number;
  readonly virtualMs: number;
  /** What happened, to see that a run was not empty. */
  readonly counts: Readonly<Record<string, number>>;
  readonly trace: readonly string[];
}
