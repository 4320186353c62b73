// The heap backend: all keyed state of one operator of one subtask.
//
// Invariants:
//   HB1. The backend holds keys of its own key groups only; a record of another one is refused.
//   HB2 and HB3 of states.ts.
//   HB4. Timers without anybody to call stay as they are, like any state that nobody asks for.
//
// Not here: the states and their tables (states.ts), bytes (format.ts), which subtask restores what (checkpoint/).

import { assert, Failure, planted } from "@sluice/kit";
import type { ByteReader } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";
import { describeType, sameType } from "../model/index.ts";
import type {
  AggregatingState,
  AggregatingStateDescriptor,
  CheckpointId,
  KeyedStateAccess,
  ListState,
  ListStateDescriptor,
  MapState,
  MapStateDescriptor,
  ReducingState,
  ReducingStateDescriptor,
  StateDescriptor,
  TimerService,
  TimerTarget,
  TypeDescriptor,
  ValueState,
  ValueStateDescriptor,
} from "../model/index.ts";
import { AggregatingHandle, ReducingHandle } from "./accumulating.ts";
import type { KeyedPartDescription, PartDescription } from "./description.ts";
import { PartReader, PartWriter } from "./format.ts";
import { rowEvolver } from "./part-rows.ts";
import { KeyScope } from "./keys.ts";
import type { NumberTable } from "./number-table.ts";
import { CooperativeSnapshot } from "./snapshot.ts";
import type { KeyedSnapshot } from "./snapshot.ts";
import { declaredBy, KeyedStates } from "./states.ts";
import type { DeclaredState } from "./states.ts";
import type { StringTable } from "./string-table.ts";
import type { StateTable } from "./table.ts";

/** Snapshots of one backend in flight; each owns one bit of a segment's pending mask. */
const SNAPSHOTS_IN_FLIGHT_MAX = 30;
/** 100 k entries of 16 bytes at a load of one half: beyond what a core has of L2 cache. */
const TOUCH_FROM_ENTRIES = 100_000;

/** A part to restore from; `bytes` is its whole content. */
export interface RestoredPart {
  readonly stateName: string;
  /** The part's own range, inclusive; only the groups that this backend owns are read. */
  readonly keyGroups: readonly [first: number, last: number];
  readonly bytes: Uint8Array;
}

/** Keyed state as the task uses it. */
export interface KeyedStateBackend extends KeyedStateAccess {
  /** Before each record. `hash` is the canonical hash of the key (@sluice/kit hash.ts), signed or unsigned. */
  setCurrentKey(key: unknown, hash: number): void;
  clearCurrentKey(): void;
  /**
   * Reads the places where the keys of these hashes lie, in every state, so that they are in the cache when their records
   * come: call it for the next 64 or so records while `isTouchWorthwhile`. Changes nothing.
   */
  touch(hashes: Int32Array, count: number): void;
  /** True once the states are larger than caches are. */
  readonly isTouchWorthwhile: boolean;
  /** Timestamp of the earliest timer that somebody waits for; Infinity when there is none. */
  readonly nextTimerMs: number;
  /** Fires timers with a timestamp up to `wallMs`, in the order of time, at most `countMax`; returns how many. */
  fireTimers(wallMs: number, countMax: number): number;
  /** Looks for expired rows, about `rowsMax` per state that has a time to live; for times without records. */
  sweepExpired(rowsMax: number): void;
  /** Cuts all states and timers here; call between records. Failure CHECKPOINT_DECLINED when 30 snapshots are in flight. */
  snapshot(checkpointId: CheckpointId): KeyedSnapshot;
  /**
   * Loads parts before functions are opened: states that they declare with a type that may follow the stored one evolve then.
   * @throws Failure SNAPSHOT_DAMAGED, FORMAT_UNSUPPORTED, or STATE_INCOMPATIBLE when key type or maxParallelism differ.
   */
  restore(parts: readonly RestoredPart[]): void;
  /** All functions are open: what was restored is let go; from now on no state changes its type. */
  opened(): void;
}

export class HeapKeyedStateBackend implements KeyedStateBackend {
  readonly #uid: string;
  readonly #clock: Clock;
  readonly #keyType: TypeDescriptor;
  readonly #keyGroups: readonly [first: number, last: number];
  readonly #maxParallelism: number;
  readonly #scope: KeyScope;
  readonly #states: KeyedStates;
  readonly #touched: readonly (NumberTable | StringTable)[];
  #timerTarget: TimerTarget | undefined = undefined;
  /** By state name, until `opened`. */
  #restored: Map<string, PartReader[]> | undefined = new Map();
  #interval = 1;
  #bitsInUse = 0;

  /** `keyGroups` is inclusive. Failure TYPE_MISMATCH for a key type without canonical hash (MAP, GENERIC). */
  constructor(options: {
    readonly keyType: TypeDescriptor;
    readonly keyGroups: readonly [first: number, last: number];
    readonly maxParallelism: number;
    readonly uid: string;
    /** Bounds the steps of snapshots; its wall clock is processing time. */
    readonly clock: Clock;
  }) {
    const [first, last] = options.keyGroups;
    this.#uid = options.uid;
    this.#clock = options.clock;
    this.#keyType = options.keyType;
    this.#keyGroups = options.keyGroups;
    this.#maxParallelism = options.maxParallelism;
    this.#scope = new KeyScope({
      keyType: options.keyType,
      groups: { first, count: last - first + 1, maxParallelism: options.maxParallelism },
      uid: options.uid,
    });
    this.#states = new KeyedStates(this.#scope, options.clock);
    this.#touched = this.#states.touched;
    this.#scope.onWrap(() => {
      for (const table of this.#states.tables) table.forget();
    });
  }

  setCurrentKey(key: unknown, hash: number): void {
    this.#scope.set(key, hash);
  }

  clearCurrentKey(): void {
    this.#scope.clear();
  }

  get isTouchWorthwhile(): boolean {
    return this.#touched.some((table) => table.entryCount >= TOUCH_FROM_ENTRIES);
  }

  touch(hashes: Int32Array, count: number): void {
    const tables = this.#touched;
    for (let i = 0; i < tables.length; i += 1) (tables[i] as NumberTable | StringTable).touch(hashes, count);
  }

  getCurrentKey(): unknown {
    return this.#scope.get();
  }

  /** The states that the job has declared so far. */
  declaredStates(): readonly DeclaredState[] {
    return this.#states.declared;
  }

  /** Entries over all states, for metrics. */
  get entryCount(): number {
    let count = 0;
    for (const table of this.#states.tables) count += table.entryCount;
    return count;
  }

  getState<T>(descriptor: ValueStateDescriptor<T>): ValueState<T> {
    return this.#declare(descriptor).handle as ValueState<T>;
  }

  getListState<T>(descriptor: ListStateDescriptor<T>): ListState<T> {
    return this.#declare(descriptor).handle as ListState<T>;
  }

  getMapState<K, V>(descriptor: MapStateDescriptor<K, V>): MapState<K, V> {
    return this.#declare(descriptor).handle as MapState<K, V>;
  }

  getReducingState<T>(descriptor: ReducingStateDescriptor<T>): ReducingState<T> {
    const table = this.#declare(descriptor as ReducingStateDescriptor<unknown>);
    return new ReducingHandle(table.handle as ValueState<T>, descriptor.reduce);
  }

  getAggregatingState<I, A, O>(descriptor: AggregatingStateDescriptor<I, A, O>): AggregatingState<I, O> {
    const table = this.#declare(descriptor as AggregatingStateDescriptor<unknown, unknown, unknown>);
    return new AggregatingHandle(table.handle as ValueState<A>, descriptor.aggregate);
  }

  getTimerService(target: TimerTarget): TimerService {
    this.#timerTarget = target;
    return {
      currentProcessingTime: () => this.#clock.wallMs(),
      registerProcessingTimeTimer: (timestampMs) => this.#states.timers(this.#interval).register(timestampMs),
      deleteProcessingTimeTimer: (timestampMs) => this.#states.existingTimers?.delete(timestampMs),
    };
  }

  get nextTimerMs(): number {
    if (this.#timerTarget === undefined) return Number.POSITIVE_INFINITY; // HB4
    return this.#states.existingTimers?.nextMs ?? Number.POSITIVE_INFINITY;
  }

  fireTimers(wallMs: number, countMax: number): number {
    const target = this.#timerTarget;
    const timers = this.#states.existingTimers;
    if (target === undefined || timers === undefined) return 0;
    let count = 0;
    for (; count < countMax; count += 1) {
      const timer = timers.poll(wallMs);
      if (timer === undefined) break;
      timers.enter(timer);
      target.onProcessingTime(timer.timestampMs);
    }
    if (count > 0) this.#scope.clear();
    return count;
  }

  sweepExpired(rowsMax: number): void {
    for (const table of this.#states.tables) if (table.ttl !== undefined) table.sweep?.(rowsMax);
  }

  forEachKey(descriptor: StateDescriptor, visit: (key: unknown) => void): void {
    const keys = this.#declare(descriptor).allKeys?.();
    assert(keys !== undefined, "the table of a declared state knows its keys");
    try {
      for (const key of keys) {
        this.setCurrentKey(key, this.#scope.hasher(key));
        visit(key);
      }
    } finally {
      this.clearCurrentKey();
    }
  }

  #declare(descriptor: StateDescriptor): StateTable {
    return this.#states.declare(declaredBy(descriptor, this.#uid), this.#interval, (table) => this.#reload(table));
  }

  snapshot(checkpointId: CheckpointId): KeyedSnapshot {
    let bit = 1;
    while ((this.#bitsInUse & bit) !== 0) bit <<= 1;
    if (bit >= 1 << SNAPSHOTS_IN_FLIGHT_MAX) {
      throw new Failure("CHECKPOINT_DECLINED", {
        retry: "backoff",
        message: `operator uid ${this.#uid}: ${SNAPSHOTS_IN_FLIGHT_MAX} snapshots are already being written`,
        remedy: "lower execution.checkpointing.max-concurrent-checkpoints or lengthen the interval",
      });
    }
    this.#bitsInUse |= bit;
    const interval = this.#interval;
    this.#interval += 1;
    const tables = this.#states.tables.map((table) => {
      const cut = table.cut({ bit, interval });
      table.advance(this.#interval);
      const writer = new PartWriter({
        section: table.stateKind === "timers" ? "timers" : "keyed-run",
        uid: this.#uid,
        stateName: table.stateName,
        stateKind: table.stateKind,
        keyType: this.#keyType,
        valueType: table.valueType,
        ttl: table.ttl?.config ?? null,
        namespace: null,
        maxParallelism: this.#maxParallelism,
        keyGroups: this.#keyGroups,
      });
      return { cut, writer };
    });
    return new CooperativeSnapshot({
      checkpointId,
      clock: this.#clock,
      tables,
      onEnd: () => {
        assert((this.#bitsInUse & bit) !== 0, "a snapshot ends once");
        this.#bitsInUse &= ~bit;
      },
    });
  }

  restore(parts: readonly RestoredPart[]): void {
    for (const part of parts) {
      const where = `snapshot of operator uid ${this.#uid}, state "${part.stateName}", key groups ${part.keyGroups.join("-")}`;
      const reader = new PartReader(part.bytes, where);
      const { stateName, stateKind, valueType, ttl } = this.#checkOrigin(reader.description, part, where);
      const table = this.#states.restore({ name: stateName, kind: stateKind, valueType, ttl }, this.#interval);
      this.#load(table, reader, (block) => block);
      const restored = this.#restored?.get(stateName) ?? [];
      this.#restored?.set(stateName, [...restored, reader]);
    }
    this.#interval += 1;
    for (const table of this.#states.tables) table.advance(this.#interval);
  }

  opened(): void {
    this.#restored = undefined;
  }

  #load(table: StateTable, reader: PartReader, evolve: (block: ByteReader) => ByteReader): void {
    const [first, last] = this.#keyGroups;
    const { description } = reader;
    const areStored = description.section !== "operator-list" && description.ttl !== null;
    const times = { areStored, nowMs: this.#clock.wallMs() }; // TL3
    for (const row of reader.blocks) {
      if ((row.keyGroup < first || row.keyGroup > last) && !planted("key-groups-of-others-restored")) continue;
      const block = evolve(reader.block(row));
      const count = table.load(block, row.keyGroup, times);
      if (count !== row.entryCount)
        throw block.failure(`${count} entries where its directory counts ${row.entryCount}`);
    }
  }

  /** Fills a table of a declared type with what the snapshot holds in an older one. */
  #reload(table: StateTable): void {
    const readers = this.#restored?.get(table.stateName);
    if (readers === undefined) {
      throw new Failure("STATE_INCOMPATIBLE", {
        retry: "never",
        message: `operator uid ${this.#uid}, state "${table.stateName}": it was stored with another type or time to live, and is declared only while records are processed`,
        remedy: "declare the state in open(): there its stored values become values of the new type",
      });
    }
    for (const reader of readers) {
      assert(reader.description.section !== "operator-list", "what was restored was keyed");
      this.#load(table, reader, rowEvolver(reader.description, table.valueType));
    }
  }

  #checkOrigin(description: PartDescription, part: RestoredPart, where: string): KeyedPartDescription {
    if (description.section === "operator-list") {
      throw new Failure("SNAPSHOT_DAMAGED", {
        retry: "never",
        message: `${where}: the part found there is of section ${description.section}`,
      });
    }
    const { uid, stateName, keyGroups, keyType, maxParallelism } = description;
    const isOther = uid !== this.#uid || stateName !== part.stateName || keyGroups.join() !== part.keyGroups.join();
    if (isOther) {
      throw new Failure("SNAPSHOT_DAMAGED", {
        retry: "never",
        message: `${where}: the part found there is of operator uid ${uid}, state "${stateName}", key groups ${keyGroups.join("-")}`,
      });
    }
    if (!sameType(keyType, this.#keyType)) {
      throw new Failure("STATE_INCOMPATIBLE", {
        retry: "never",
        message: `${where}: it is keyed by ${describeType(keyType)}, the job keys by ${describeType(this.#keyType)}`,
        remedy: "keep the key type, or give the operator a new uid to start it empty",
      });
    }
    if (maxParallelism !== this.#maxParallelism) {
      throw new Failure("STATE_INCOMPATIBLE", {
        retry: "never",
        message: `${where}: it was written with maxParallelism ${maxParallelism}, the job has ${this.#maxParallelism}`,
        remedy: `set maxParallelism to ${maxParallelism}; it is fixed for the life of the state`,
      });
    }
    return description;
  }
}
