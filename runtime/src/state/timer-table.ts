// Timers of one operator: keyed state like any other, (key, timestamp) once each, and a heap of them by time.
//
// Invariants: TB1, TB2, TB4 of table.ts, ET1-ET4 of entry-table.ts, RW1 and RW2 of rows.ts, TP1 and TP2 of timer-heap.ts, and
//   TT1. A (key, timestamp) is there at most once, and it is in the heap iff it is in the table.
//   TT2. A timer is never changed: it is registered, and taken out when it fires or is deleted.
//
// A cut of timers is a cut of rows: it costs nothing at the barrier, however many there are.
//
// Not here: when to fire (task/), namespaces (windows will add them to a timer's identity).

import { Failure, planted } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { TypeDescriptor } from "../model/index.ts";
import { EntryTable } from "./entry-table.ts";
import type { Capture, EntryLayout } from "./entry-table.ts";
import type { KeyScope } from "./keys.ts";
import { captureRows, deleteRow, findRow, keepRow, setRow } from "./rows.ts";
import type { Row, RowEntry } from "./rows.ts";
import type { OpenCut, StateTable, TableCut } from "./table.ts";
import { TimerHeap } from "./timer-heap.ts";
import type { HeapItem } from "./timer-heap.ts";

/** Names that users' states cannot have. */
export const TIMER_STATE_PREFIX = "_timer_state/";
/** Flink's name of the processing-time timers that user functions register. */
export const PROCESSING_TIMERS = `${TIMER_STATE_PREFIX}processing_user-timers`;

type TimerEntry = RowEntry<Timer>;

/** One timer. As a row its key is the timestamp, and it has no value. */
export class Timer implements Row, HeapItem {
  readonly mapKey: number;
  readonly serial: number;
  readonly entry: TimerEntry;
  value = undefined;
  readonly timeMs = 0;
  stamp: number;
  isDead = false;

  constructor(options: {
    readonly timestampMs: number;
    readonly serial: number;
    readonly entry: TimerEntry;
    readonly stamp: number;
  }) {
    this.mapKey = options.timestampMs;
    this.serial = options.serial;
    this.entry = options.entry;
    this.stamp = options.stamp;
  }

  get timestampMs(): number {
    return this.mapKey;
  }
}

export class TimerTable implements StateTable, EntryLayout<TimerEntry> {
  readonly stateName: string;
  readonly stateKind = "timers";
  readonly valueType: TypeDescriptor = { kind: "INSTANT" };
  readonly handle = undefined;
  readonly ttl = undefined;
  readonly #scope: KeyScope;
  readonly #entries: EntryTable<TimerEntry>;
  readonly #heap = new TimerHeap<Timer>();
  #serial = 0;
  readonly #isForgetful = planted("timer-registered-twice");

  constructor(scope: KeyScope, options: { readonly stateName: string; readonly interval: number }) {
    this.stateName = options.stateName;
    this.#scope = scope;
    this.#entries = new EntryTable(scope, { ...options, ttl: undefined, layout: this });
  }

  get entryCount(): number {
    return this.#heap.size;
  }

  /** Timestamp of the earliest timer; Infinity when there is none. */
  get nextMs(): number {
    return this.#heap.first()?.timestampMs ?? Number.POSITIVE_INFINITY;
  }

  /** Registers a timer of the current key; one that is there already stays the only one (TT1). */
  register(timestampMs: number): void {
    this.#check(timestampMs);
    const entry = this.#current("registerProcessingTimeTimer()") ?? this.#newEntry();
    if (findRow(entry, timestampMs) === undefined || this.#isForgetful) this.#add(entry, timestampMs);
  }

  /** Deletes a timer of the current key, if it is there. */
  delete(timestampMs: number): void {
    this.#check(timestampMs);
    const entry = this.#current("deleteProcessingTimeTimer()");
    const timer = entry === undefined ? undefined : findRow(entry, timestampMs);
    if (timer !== undefined) this.#take(timer);
  }

  /** Takes out the earliest timer if its time has come. */
  poll(nowMs: number): Timer | undefined {
    const timer = this.#heap.first();
    if (timer === undefined || timer.timestampMs > nowMs) return undefined;
    this.#take(timer);
    return timer;
  }

  /** Makes the key of a timer the current one. */
  enter(timer: Timer): void {
    this.#scope.set(this.#entries.keyOf(timer.entry), timer.entry.hash);
  }

  forget(): void {
    this.#entries.forget();
  }

  #current(what: string): TimerEntry | undefined {
    if (this.#entries.epoch !== this.#scope.epoch) this.#entries.locate(what);
    return this.#entries.entry;
  }

  #check(timestampMs: number): void {
    if (Number.isSafeInteger(timestampMs)) return;
    throw new Failure("TYPE_MISMATCH", {
      retry: "never",
      message: `operator uid ${this.#scope.uid}: a timer at ${String(timestampMs)}, which is not a whole number of milliseconds`,
      remedy: "round it: Math.floor(timestamp)",
    });
  }

  #newEntry(): TimerEntry {
    const entries = this.#entries;
    const entry: TimerEntry = {
      ...entries.newKey(),
      ghosts: undefined,
      removedFor: 0,
      only: undefined,
      rows: undefined,
    };
    entries.insert(entry);
    return entry;
  }

  #add(entry: TimerEntry, timestampMs: number, isArmed = true): void {
    this.#serial += 1;
    const timer = new Timer({ timestampMs, serial: this.#serial, entry, stamp: this.#entries.interval });
    setRow(entry, timer);
    if (isArmed) this.#heap.add(timer);
  }

  #take(timer: Timer): void {
    const { entry } = timer;
    this.#heap.remove(timer);
    if (timer.stamp !== this.#entries.interval) keepRow(this.#entries, entry, timer);
    if (deleteRow(entry, timer.mapKey)) this.#entries.remove(entry);
  }

  advance(interval: number): void {
    this.#entries.interval = interval;
  }

  cut(open: OpenCut): TableCut {
    return this.#entries.cut(open);
  }

  capture(entry: TimerEntry, capture: Capture<TimerEntry>): boolean {
    return captureRows(entry, capture, (timer) => capture.row().long(timer.mapKey));
  }

  /** Timers do not expire. */
  expire(): boolean {
    return true;
  }

  load(from: ByteReader, keyGroup: number): number {
    const isArmed = !planted("restored-timer-not-armed");
    return this.#entries.load(from, keyGroup, () => {
      const timestampMs = from.long();
      const entry = this.#entries.entry ?? this.#newEntry();
      if (findRow(entry, timestampMs) !== undefined) throw from.failure("a timer that occurs twice");
      this.#add(entry, timestampMs, isArmed);
    });
  }
}
