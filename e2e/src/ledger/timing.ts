// When records were emitted, and by which attempt: outages are measured by what was published, not by what the system says.
//
// Every line carries the wall clock of its emission and of the opening of its function. All nodes of the cluster run on one machine,
// so that these clocks and the one of the test are the same. Records that were emitted before a failure and not committed are not in
// the ledger; they were emitted again by the next attempt. So an outage ends with the first line of an attempt opened after the fault.

import { linesOf } from "./audit.ts";
import type { LedgerFile } from "./audit.ts";

export interface Outage {
  /** The last published record of earlier attempts. */
  readonly lastBeforeMs: number | undefined;
  /** The first published record of attempts opened after the fault. */
  readonly firstAfterMs: number | undefined;
  readonly openedMs: number | undefined;
  readonly recordsBefore: number;
  readonly recordsAfter: number;
}

/** What happened around `faultMs`, the moment when the fault was ordered. */
export function outageAt(files: readonly LedgerFile[], faultMs: number): Outage {
  let lastBeforeMs = -Infinity;
  let firstAfterMs = Infinity;
  let openedAfterMs = Infinity;
  let recordsBefore = 0;
  let recordsAfter = 0;
  for (const file of files) {
    for (const { emittedMs, openedMs } of linesOf(file)) {
      if (openedMs < faultMs) {
        recordsBefore += 1;
        lastBeforeMs = Math.max(lastBeforeMs, emittedMs);
      } else {
        recordsAfter += 1;
        firstAfterMs = Math.min(firstAfterMs, emittedMs);
        openedAfterMs = Math.min(openedAfterMs, openedMs);
      }
    }
  }
  return {
    lastBeforeMs: finite(lastBeforeMs),
    firstAfterMs: finite(firstAfterMs),
    openedMs: finite(openedAfterMs),
    recordsBefore,
    recordsAfter,
  };
}

/** Records per version of the job, in the order of their first emission. */
export function recordsPerVersion(files: readonly LedgerFile[]): ReadonlyMap<string, number> {
  const first = new Map<string, number>();
  const counts = new Map<string, number>();
  for (const file of files) {
    for (const { version, emittedMs } of linesOf(file)) {
      counts.set(version, (counts.get(version) ?? 0) + 1);
      first.set(version, Math.min(first.get(version) ?? Infinity, emittedMs));
    }
  }
  return new Map([...counts].toSorted(([a], [b]) => (first.get(a) ?? 0) - (first.get(b) ?? 0)));
}

function finite(value: number): number | undefined {
  return Number.isFinite(value) ? value : undefined;
}
