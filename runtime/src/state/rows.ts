// Rows of a key: (key, row key) -> value, as maps and timers have them. Small by nature: most keys have one row, and that one needs
// no Map.
//
// Invariants: ET1, ET3 of entry-table.ts, and
//   RW1. Rows of an entry are in the order of their serial numbers; an overwritten row keeps its number, a new one gets a higher one.
//   RW2. A row that a cut needs is never changed: another Row takes its place, and the old one becomes a ghost.
//
// Not here: what values are, and how they are written (map-table.ts, timers.ts).

import type { Capture, Entry, EntryTable, Ghost } from "./entry-table.ts";

/** One row. `mapKey` is its key as a JS Map can hold it. */
export interface Row {
  readonly mapKey: unknown;
  readonly serial: number;
  value: unknown;
  /** With a time to live: when it began. */
  timeMs: number;
  stamp: number;
}

export interface RowEntry<R extends Row> extends Entry {
  /** The only row there ever was; from the second on, all are in `rows`. */
  only: R | undefined;
  rows: Map<unknown, R> | undefined;
}

/** A row as it was; `bytes` (of value alone) where the user may still write to its value. */
export interface RowGhost<R extends Row> extends Ghost {
  readonly row: R;
  readonly timeMs: number;
  readonly bytes: Uint8Array | undefined;
}

export function findRow<R extends Row>(entry: RowEntry<R>, mapKey: unknown): R | undefined {
  if (entry.rows !== undefined) return entry.rows.get(mapKey);
  const { only } = entry;
  // Object.is would tell NaN from others as well, but -0 never gets here and === is what Map does otherwise.
  return only !== undefined && (only.mapKey === mapKey || (only.mapKey !== only.mapKey && mapKey !== mapKey))
    ? only
    : undefined;
}

/** Adds a row, or puts it in the place of the one with its key (RW1). */
export function setRow<R extends Row>(entry: RowEntry<R>, row: R): void {
  if (entry.rows !== undefined) entry.rows.set(row.mapKey, row);
  else if (entry.only === undefined || findRow(entry, row.mapKey) !== undefined) entry.only = row;
  else {
    entry.rows = new Map([
      [entry.only.mapKey, entry.only],
      [row.mapKey, row],
    ]);
    entry.only = undefined;
  }
}

/** Takes the row of this key out; true when it was the last one. */
export function deleteRow<R extends Row>(entry: RowEntry<R>, mapKey: unknown): boolean {
  if (entry.rows === undefined) {
    entry.only = undefined;
    return true;
  }
  entry.rows.delete(mapKey);
  return entry.rows.size === 0;
}

export function rowCount<R extends Row>(entry: RowEntry<R>): number {
  return entry.rows?.size ?? (entry.only === undefined ? 0 : 1);
}

/** All rows in their order; what is put, overwritten or taken out meanwhile is seen as by a JS Map's iterator. */
export function rowsOf<R extends Row>(entry: RowEntry<R>): Iterator<R> {
  if (entry.rows !== undefined) return entry.rows.values();
  let rows: Iterator<R> | undefined;
  let serial = 0;
  return {
    next: () => {
      if (entry.rows === undefined) {
        const { only } = entry;
        if (only === undefined || only.serial <= serial) return { done: true, value: undefined };
        serial = only.serial;
        return { value: only };
      }
      rows ??= entry.rows.values();
      let next = rows.next();
      while (next.done !== true && next.value.serial <= serial) next = rows.next();
      return next;
    },
  };
}

/** RW2, before a row is overwritten or taken out: true when a cut needs it as it is. */
export function keepRow<R extends Row>(table: EntryTable<RowEntry<R>>, entry: RowEntry<R>, row: R): boolean {
  const cuts = table.needers(entry, row);
  if (cuts === 0) return false;
  const ghost: RowGhost<R> = { cuts, row, timeMs: row.timeMs, bytes: undefined };
  table.keep(entry, ghost);
  return true;
}

/** Writes row key, time and value; the value from `bytes` if they are given. */
type WriteRow<R extends Row> = (row: R, timeMs: number, bytes: Uint8Array | undefined) => void;

/** How far the capture of an entry has come. */
interface Resume<R extends Row> {
  readonly rows: Iterator<R>;
  ghosts: (Ghost | undefined)[] | undefined;
  nextGhost: number;
}

/** Captures an entry row by row (ET3). `write` writes row key and value. */
export function captureRows<R extends Row>(
  entry: RowEntry<R>,
  capture: Capture<RowEntry<R>>,
  write: WriteRow<R>,
): boolean {
  let resume = capture.resume as Resume<R> | undefined;
  if (resume === undefined) {
    resume = { rows: rowsOf(entry), ghosts: undefined, nextGhost: 0 };
    capture.resume = resume;
  }
  while (capture.room > 0) {
    // Ghosts first: after the last row, those are written that rows behind the iterator's place left in the meantime.
    if (!writeGhosts(entry, capture, resume, write)) break;
    const next = resume.rows.next();
    if (next.done === true) return true;
    const row = next.value;
    capture.serial = row.serial;
    const isOfCut = row.stamp <= capture.interval; // TB1
    if (isOfCut && row.timeMs > capture.expiredThroughMs) write(row, row.timeMs, undefined);
    else capture.room -= 1;
  }
  return false;
}

/** True when all ghosts there are were looked at. */
function writeGhosts<R extends Row>(
  entry: RowEntry<R>,
  capture: Capture<RowEntry<R>>,
  resume: Resume<R>,
  write: WriteRow<R>,
): boolean {
  if (resume.ghosts !== entry.ghosts) {
    // The end of another cut left a new list: those that were written do not have the bit any more.
    resume.ghosts = entry.ghosts;
    resume.nextGhost = 0;
  }
  const ghosts = (resume.ghosts ?? []) as (RowGhost<R> | undefined)[];
  for (; resume.nextGhost < ghosts.length; resume.nextGhost += 1) {
    const ghost = ghosts[resume.nextGhost];
    if (ghost === undefined || (ghost.cuts & capture.bit) === 0) continue;
    if (capture.room <= 0) return false;
    if (ghost.timeMs > capture.expiredThroughMs) write(ghost.row, ghost.timeMs, ghost.bytes);
    ghost.cuts &= ~capture.bit;
    if (ghost.cuts === 0) ghosts[resume.nextGhost] = undefined;
  }
  return true;
}
