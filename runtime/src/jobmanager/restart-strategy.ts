// Whether and when a failed job starts again (Flink: restart strategies none, fixed-delay, failure-rate, exponential-delay).
//
// Invariants (tests cite them):
//   RS1. A failure that trying again cannot cure never restarts the job.
//   RS2. exponential-delay: the first restart after a quiet time waits for nothing (DESIGN 9), later ones as Flink's.
//   RS3. After `attemptsMax` restarts (exponential: without a quiet time between) the job fails.
//   RS4. failure-rate: the job fails with the first failure that makes more than `failuresMax` within `intervalMs`. That is what Flink's
//        documentation says; its code fails one failure earlier, so that its default of 1 never restarts.

import { Backoff } from "@sluice/kit";
import type { Failure, FailureCode } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";
import type { RestartSettings } from "../model/configuration/index.ts";

export type RestartDecision =
  { readonly type: "restart"; readonly delayMs: number } | { readonly type: "fail"; readonly reason: string };

/** Failures whose cause is in the job or its settings (Flink: SuppressRestartsException). */
const INCURABLE: ReadonlySet<FailureCode> = new Set<FailureCode>([
  "CONFIG_INVALID",
  "CONFIG_UNKNOWN_KEY",
  "CONFIG_NOT_IMPLEMENTED",
  "JOB_MODULE_NOT_FOUND",
  "JOB_MODULE_INVALID",
  "JOB_MAIN_FAILED",
  "JOB_GRAPH_INVALID",
  "PLAN_MISMATCH",
  "TYPE_MISMATCH",
  "RECORD_MALFORMED",
  "INPUT_NOT_FOUND",
  "STATE_ACCESS_INVALID",
  "STATE_INCOMPATIBLE",
  "FORMAT_UNSUPPORTED",
]);

/** RS1. */
export function isIncurable(failure: Failure): boolean {
  return failure.retry === "never" && INCURABLE.has(failure.code);
}

export class RestartStrategy {
  readonly #settings: RestartSettings;
  readonly #backoff: Backoff | undefined;
  #restartCount = 0;
  /** failure-rate: the newest, at most `failuresMax` (AR8), oldest first. */
  readonly #failuresMs: number[] = [];
  #lastFailureMs = Number.NEGATIVE_INFINITY;

  constructor(settings: RestartSettings, rng: Rng) {
    this.#settings = settings;
    if (settings.type === "exponential-delay") this.#backoff = new Backoff(settings, rng);
  }

  /** Decides about a failure at `nowMs` (monotonic), and counts it. */
  onFailure(failure: Failure, nowMs: number): RestartDecision {
    if (isIncurable(failure)) return { type: "fail", reason: `${failure.code} is not cured by starting again` };
    const settings = this.#settings;
    switch (settings.type) {
      case "none":
        return { type: "fail", reason: "restart-strategy.type is none (it is without checkpointing)" };
      case "fixed-delay":
        if (this.#restartCount >= settings.attemptsMax) return spent(settings.attemptsMax);
        this.#restartCount += 1;
        return { type: "restart", delayMs: settings.delayMs };
      case "failure-rate": {
        const { failuresMax, intervalMs } = settings;
        const oldestMs = this.#failuresMs.length < failuresMax ? undefined : this.#failuresMs.shift();
        this.#failuresMs.push(nowMs);
        if (oldestMs !== undefined && nowMs - oldestMs <= intervalMs)
          return { type: "fail", reason: `more than ${failuresMax} failures within ${intervalMs} ms` }; // RS4
        return { type: "restart", delayMs: settings.delayMs };
      }
      case "exponential-delay": {
        const isQuiet = nowMs - this.#lastFailureMs >= settings.resetAfterMs;
        if (isQuiet) {
          this.#restartCount = 0;
          this.#backoff?.reset();
        }
        if (this.#restartCount >= settings.attemptsMax) return spent(settings.attemptsMax); // RS3
        this.#restartCount += 1;
        const isFree = settings.firstAtOnce && this.#restartCount === 1; // RS2
        const delayMs = isFree ? 0 : (this.#backoff?.nextDelayMs(nowMs) ?? 0);
        this.#lastFailureMs = nowMs + delayMs;
        return { type: "restart", delayMs };
      }
    }
  }
}

function spent(attemptsMax: number): RestartDecision {
  return { type: "fail", reason: `all ${attemptsMax} restarts of the restart strategy are spent` };
}
