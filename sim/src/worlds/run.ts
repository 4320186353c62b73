// What one run of a world takes and gives, and how a seed becomes a result.

import { Violation, type World } from "../index.ts";

/** Of the trace, when not all of it is kept. */
const TRACE_TAIL = 60;
const TRACE_ALL = 1_000_000;

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

/** Runs a world to its end. Never throws for what the seed finds: the result says it. `counts` is asked for afterwards. */
export async function resultOf(
  world: World,
  options: RunOptions,
  run: { go(): Promise<void>; readonly counts: RunResult["counts"] },
): Promise<RunResult> {
  let failure: string | undefined;
  try {
    await run.go();
  } catch (thrown) {
    if (thrown instanceof Violation) failure = thrown.message;
    else failure = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  }
  return {
    seed: options.seed,
    failure,
    hash: world.loop.hash,
    eventCount: world.loop.eventCount,
    virtualMs: world.loop.nowMs,
    counts: run.counts,
    trace: world.loop.tail(options.keepsTrace ? TRACE_ALL : TRACE_TAIL),
  };
}
