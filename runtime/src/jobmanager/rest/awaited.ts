// Who still waits for an answer: a client that was told "in progress" asks again, and must find the end before this process goes.
//
// Invariants:
//   AW1. Only what a client asks for again counts, and only as long as it does: whoever stays away is not waited for.
//
// Not here: going (bin/run-jobmanager.ts).

import type { Clock } from "@sluice/kit/env";
import type { CommitRecord } from "../../checkpoint/index.ts";
import type { RestResponse } from "./routes.ts";

/** Flink's clients ask again after 2 s at most. */
const ASKS_AGAIN_MS = 4_000;
/** A JobManager is started again within seconds; whoever has waited for longer has gone. */
const RECENT_MS = 60_000;

export class Awaited {
  readonly #clock: Clock;
  /** When each thing was asked for or begun last, by what its answer is found under. */
  readonly #askedAtMs = new Map<string, number>();

  constructor(clock: Clock) {
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

  /** The JobManager that wrote this record died before it could tell what came of these operations: who asked it asks again. */
  expect({ ops, writtenMs }: Pick<CommitRecord, "ops" | "writtenMs">): void {
    if (this.#clock.wallMs() - writtenMs > RECENT_MS) return;
    for (const { id } of ops) this.#askedAtMs.set(id, this.#clock.nowMs());
  }

  /** Whether somebody is about to ask again. */
  get isAwaited(): boolean {
    const sinceMs = this.#clock.nowMs() - ASKS_AGAIN_MS;
    for (const [key, atMs] of this.#askedAtMs) if (atMs < sinceMs) this.#askedAtMs.delete(key);
    return this.#askedAtMs.size > 0;
  }
}
