// Retrying storage calls with exponential backoff and jitter, on injected timers.
//
// Not here: deciding whether a repeated call is safe; the caller's protocol says that.

import { AssertionError, type Failure, toFailure } from "@sluice/kit";
import type { Log, Rng, Timers } from "@sluice/kit/env";

const FIRST_DELAY_MS = 50;
const DELAY_MS_MAX = 5_000;
/** Of failures in a row the first is logged, and then each of this many. */
const LOGGED_EVERY = 10;

/** One sequence of waits: 50 ms, doubling to 5 s, each shortened by up to half. */
export class StorageBackoff {
  readonly #env: { readonly timers: Timers; readonly rng: Rng };
  #delayMs = FIRST_DELAY_MS;

  constructor(env: { readonly timers: Timers; readonly rng: Rng }) {
    this.#env = env;
  }

  /** Waits once; false when one of `signals` ended the wait. */
  sleep(label: string, signals: readonly AbortSignal[]): Promise<boolean> {
    const delayMs = this.#delayMs / 2 + this.#env.rng.below(Math.ceil(this.#delayMs / 2) + 1);
    this.#delayMs = Math.min(DELAY_MS_MAX, this.#delayMs * 2);
    if (signals.some((signal) => signal.aborted)) return Promise.resolve(false);
    return new Promise((resolve) => {
      const end = (slept: boolean): void => {
        cancel();
        for (const signal of signals) signal.removeEventListener("abort", onAbort);
        resolve(slept);
      };
      const onAbort = (): void => end(false);
      const cancel = this.#env.timers.after(delayMs, label, () => end(true));
      for (const signal of signals) signal.addEventListener("abort", onAbort, { once: true });
    });
  }
}

/** Repeats an idempotent storage call while its failure says `backoff` or `now`, until `signal`; then rejects with the last failure. */
export async function retryStorage<T>(
  env: { readonly timers: Timers; readonly rng: Rng; readonly log?: Log },
  signal: AbortSignal,
  label: string,
  call: () => Promise<T>,
): Promise<T> {
  const backoff = new StorageBackoff(env);
  for (let failures = 0; ; failures += 1) {
    let failure: Failure;
    try {
      return await call();
    } catch (thrown) {
      failure = storageFailure(thrown, label);
      if (failure.retry === "never") throw failure;
    }
    if (failures % LOGGED_EVERY === 0) {
      env.log?.warn("the store fails; tried again", { call: label, code: failure.code, failure: failure.message });
    }
    if (!(await backoff.sleep(label, [signal]))) throw failure;
  }
}

/** What a storage call threw, as a Failure; a broken assertion is no failure of the store and goes on upwards (AS1). */
export function storageFailure(thrown: unknown, where: string): Failure {
  if (thrown instanceof AssertionError) throw thrown;
  return toFailure(thrown, "STORAGE_UNAVAILABLE", where);
}
