// Time to live of the rows of one state, in processing time: the wall clock of the TaskManager.
//
// Invariants:
//   TL1. A row has expired when its time plus the time to live is not after now (Flink's rule). Its time is that of its last write,
//        and with OnReadAndWrite that of its last access.
//   TL2. Nothing expires in a state that was restored and that nobody has declared: what its time to live is now, only the job says.
//   TL3. Rows that were stored without a time begin their life when they are restored.
//
// Clean-up, in all tables: an expired row is taken out when it is met; a sweep meets a few rows of any key with every access and, from
// the task, now and then without one; snapshots leave expired rows out.
//
// Not here: where the times of rows are kept (the tables).

import { Failure, planted } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import type { StateTtlConfig } from "../model/index.ts";

/** Rows that the sweep looks at for every access: more than an access can add, so that it always gains on them. */
export const SWEPT_PER_ACCESS = 3;

/** A configuration with its defaults. Failure STATE_ACCESS_INVALID for a time that is none. */
export function ttlConfigOf(ttl: StateTtlConfig | undefined, where: string): Required<StateTtlConfig> | null {
  if (ttl === undefined) return null;
  const { ttlMs, updateType = "OnCreateAndWrite", stateVisibility = "NeverReturnExpired" } = ttl;
  if (!Number.isSafeInteger(ttlMs) || ttlMs <= 0) {
    throw new Failure("STATE_ACCESS_INVALID", {
      retry: "never",
      message: `${where}: its time to live is ${String(ttlMs)} ms`,
      remedy: "give ttlMs a whole number of milliseconds above 0",
    });
  }
  return { ttlMs, updateType, stateVisibility };
}

export class Ttl {
  readonly #clock: Pick<Clock, "wallMs">;
  #config: Required<StateTtlConfig>;
  #isDeclared = false;
  renewsOnRead = false;
  returnsExpired = false;

  constructor(config: Required<StateTtlConfig>, clock: Pick<Clock, "wallMs">) {
    this.#config = config;
    this.#clock = clock;
  }

  get config(): Required<StateTtlConfig> {
    return this.#config;
  }

  /** TL2: from now on rows expire. */
  declare(config: Required<StateTtlConfig>): void {
    this.#config = planted("time-to-live-doubled") ? { ...config, ttlMs: config.ttlMs * 2 } : config;
    this.#isDeclared = true;
    this.renewsOnRead = config.updateType === "OnReadAndWrite";
    this.returnsExpired = config.stateVisibility === "ReturnExpiredIfNotCleanedUp";
  }

  nowMs(): number {
    return this.#clock.wallMs();
  }

  /** Rows with a time up to this one have expired (TL1). */
  expiredThroughMs(nowMs: number): number {
    return this.#isDeclared ? nowMs - this.#config.ttlMs : Number.NEGATIVE_INFINITY;
  }
}
