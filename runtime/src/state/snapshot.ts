// A keyed snapshot on its way from cut to parts, encoded in small steps between records.
//
// Invariants:
//   SN1. The parts contain exactly what the states held when `snapshot()` was called, whatever is written between steps.
//   SN2. A step encodes whole segments (5 k numeric or 256 other entries), at least one, until its budget is used up.
//   SN3. After `parts` or `release` the tables hold nothing for this snapshot any more.
//
// Not here: when to step (task/), where parts go (taskmanager/).

import { assert } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import type { CheckpointId, SnapshotPart } from "../model/index.ts";
import type { PartWriter } from "./format.ts";
import type { TableCut } from "./table.ts";

/** The snapshot of a keyed backend. */
export interface KeyedSnapshot {
  readonly checkpointId: CheckpointId;
  /** Encodes for about `budgetMs` (SN2); true when everything is encoded. */
  step(budgetMs: number): boolean;
  /** One part per state, once `step` returned true. The buffers of the chunks belong to the caller. */
  parts(): readonly SnapshotPart[];
  /** Gives the snapshot up; harmless when it is already finished. */
  release(): void;
}

const CLOCK_EVERY_ENTRIES = 64;

export class CooperativeSnapshot implements KeyedSnapshot {
  readonly checkpointId: CheckpointId;
  readonly #tables: readonly { readonly cut: TableCut; readonly writer: PartWriter }[];
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #onEnd: () => void;
  readonly #parts: SnapshotPart[] = [];
  #next = 0;
  #state: "encoding" | "encoded" | "taken" | "released" = "encoding";

  constructor(options: {
    readonly checkpointId: CheckpointId;
    readonly clock: Pick<Clock, "nowMs">;
    readonly tables: readonly { readonly cut: TableCut; readonly writer: PartWriter }[];
    /** Called once, when the tables hold nothing for this snapshot any more. */
    readonly onEnd: () => void;
  }) {
    this.checkpointId = options.checkpointId;
    this.#tables = options.tables;
    this.#clock = options.clock;
    this.#onEnd = options.onEnd;
    if (this.#tables.length === 0) this.#end("encoded");
  }

  step(budgetMs: number): boolean {
    assert(this.#state === "encoding" || this.#state === "encoded", "a released snapshot is not stepped");
    if (!this.#isEncoding()) return true;
    const endMs = this.#clock.nowMs() + budgetMs;
    let entries = 0;
    do {
      const { cut, writer } = this.#tables[this.#next] as { readonly cut: TableCut; readonly writer: PartWriter };
      if (!cut.isDone) entries += cut.captureNext(writer);
      if (cut.isDone) {
        this.#parts.push(writer.finish());
        this.#next += 1;
        if (this.#next === this.#tables.length) this.#end("encoded");
      }
      // The clock is asked only now and then: segments may be nearly empty.
      if (entries < CLOCK_EVERY_ENTRIES) continue;
      entries = 0;
      if (this.#clock.nowMs() >= endMs) break;
    } while (this.#isEncoding());
    return !this.#isEncoding();
  }

  parts(): readonly SnapshotPart[] {
    assert(this.#state === "encoded", "parts are there once, after the last step");
    this.#state = "taken";
    return this.#parts;
  }

  release(): void {
    if (this.#state === "encoding") {
      for (const { cut } of this.#tables) cut.drop();
      this.#end("released");
    }
    this.#state = "released";
    this.#parts.length = 0;
  }

  #isEncoding(): boolean {
    return this.#state === "encoding";
  }

  #end(state: "encoded" | "released"): void {
    this.#state = state;
    this.#onEnd();
  }
}
