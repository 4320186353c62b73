// Who still waits for an answer: a client that was told "in progress" asks again, and must find the end before this process goes.
//
// Invariants:
//   AW1. Only what a client asks for again counts, and only as long as it does: whoever stays away is not waited for.
//
// Not here: going (bin/jobmanager.ts).

import type { Clock } from "@sluice/kit/env";
import type { RestResponse } from "./routes.ts";

/** Flink's clients ask again after 2 s at most. */
const ASKS_AGAIN_MS = 4_000;

export class Awaited {
  readonly #clock: Pick<Clock, "nowMs">;
  /** When each thing was asked for or begun last, by what its answer is found under. */
  readonly #askedAtMs = new Map<string, number>();

  constructor(clock: Pick<Clock, "nowMs">) {
    this.#clock = clock;
  }

  /** Every answer of REST, with the path it was given to. */
  answered(path: string, { status, body }: RestResponse): void {
    if (status >= 400 || typeof body !== "object" || body === null) return;
    const { "request-id": trigger, status: progress } = body as {
      readonly "request-id"?: unknown;
      readonly status?: unknown;
    };
    const key = path.slice(path.lastIndexOf("/") + 1);
    const id =
      typeof progress === "object" && progress !== null ? (progress as { readonly id?: unknown }).id : undefined;
    if (typeof trigger === "string") this.#askedAtMs.set(trigger, this.#clock.nowMs());
    else if (id === "IN_PROGRESS") this.#askedAtMs.set(key, this.#clock.nowMs());
    else if (id === "COMPLETED") this.#askedAtMs.delete(key);
  }

  /** Whether somebody is about to ask again. */
  get isAwaited(): boolean {
    const sinceMs = this.#clock.nowMs() - ASKS_AGAIN_MS;
    for (const [key, atMs] of this.#askedAtMs) if (atMs < sinceMs) this.#askedAtMs.delete(key);
    return this.#askedAtMs.size > 0;
  }
}
