// What is done to the processes of a run, and when: drawn from the seed before anything starts.
//
// Invariants:
//   KS1. The same seed gives the same kills.
//   KS2. Seeds 2k and 2k + 1 together strike every kind once: any even stretch of seeds holds the kinds evenly.
//   KS3. Every fourth seed has a spare TaskManager: there a paused one wakes up while its successors run; elsewhere the job
//        needs its slot to run again.
//
// Not here: doing it (strike.ts).

import { SeededRng } from "@sluice/kit";

export const KILL_KINDS = ["taskmanager", "jobmanager", "both", "pause"] as const;

/**
 * `taskmanager`, `jobmanager`, `both`: SIGKILL. `pause`: SIGSTOP of a TaskManager until it was given up by its heartbeats, then
 * SIGCONT, so that the given-up one wakes up beside its successors.
 */
export type KillKind = (typeof KILL_KINDS)[number];

export interface PlannedKill {
  readonly kind: KillKind;
  /** Which of the TaskManagers that run tasks, if the kind concerns one. */
  readonly taskManagerIndex: number;
  /**
   * After output was committed and a new checkpoint began: this much later. Spread over more than one checkpoint interval, so
   * that kills fall into alignment, upload, commit and the time between checkpoints.
   */
  readonly delayMs: number;
}

export const KILLS_PER_SEED = 2;
/** TaskManagers that the job needs; each has one slot. */
export const PARALLELISM = 2;

/** KS3. */
export function taskManagerCount(seed: number): number {
  return seed % 4 === 3 ? PARALLELISM + 1 : PARALLELISM;
}

/** KS1, KS2. */
export function planKills(seed: number, options: { readonly delayMaxMs: number }): readonly PlannedKill[] {
  const kinds: KillKind[] = [...KILL_KINDS];
  const shuffle = new SeededRng(Math.floor(seed / 2)).fork("kinds");
  for (let i = kinds.length - 1; i > 0; i -= 1) {
    const j = shuffle.below(i + 1);
    [kinds[i], kinds[j]] = [kinds[j] as KillKind, kinds[i] as KillKind];
  }
  const rng = new SeededRng(seed).fork("kills");
  const first = (seed % 2) * KILLS_PER_SEED;
  return kinds.slice(first, first + KILLS_PER_SEED).map((kind) => ({
    kind,
    taskManagerIndex: rng.below(PARALLELISM),
    delayMs: rng.below(options.delayMaxMs),
  }));
}
