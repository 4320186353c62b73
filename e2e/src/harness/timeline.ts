// When a StreamJob was seen in which step: the parts of an upgrade, by the clock of this machine.
//
// Invariants:
//   TL1. Only changes are kept, in the order of their arrival; the newest ENTRIES_MAX of a job.

import type { StreamJobObject } from "./objects.ts";

const ENTRIES_MAX = 500;

export interface TimelineEntry {
  readonly atMs: number;
  readonly lifecycleState: string;
  readonly jobState: string;
  /** Kind and step of the operation under way, for example "Upgrade/Stop"; "" without one. */
  readonly step: string;
}

export class Timelines {
  readonly #ofUid = new Map<string, TimelineEntry[]>();

  see(job: StreamJobObject): void {
    const { status } = job;
    const entry: TimelineEntry = {
      atMs: Date.now(),
      lifecycleState: status?.lifecycleState ?? "",
      jobState: status?.jobState ?? "",
      step: status?.op === undefined ? "" : `${status.op.kind}/${status.op.step}`,
    };
    const { uid } = job.metadata;
    const entries = this.#ofUid.get(uid) ?? [];
    this.#ofUid.set(uid, entries);
    const last = entries.at(-1);
    const isSame =
      last?.lifecycleState === entry.lifecycleState && last.jobState === entry.jobState && last.step === entry.step;
    if (isSame) return; // TL1
    entries.push(entry);
    if (entries.length > ENTRIES_MAX) entries.shift();
  }

  of(uid: string): readonly TimelineEntry[] {
    return this.#ofUid.get(uid) ?? [];
  }

  /** When a step was first seen at or after a moment. */
  firstMs(uid: string, fromMs: number, matches: (entry: TimelineEntry) => boolean): number | undefined {
    return this.of(uid).find((entry) => entry.atMs >= fromMs && matches(entry))?.atMs;
  }
}
