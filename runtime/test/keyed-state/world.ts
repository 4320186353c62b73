// A keyed operator with its subtasks, as a test's whole world: random operations on every kind of state, timers and times to live, with
// several snapshots in flight, aborts, crashes, restarts at other parallelisms, and damaged parts. Beside it the same as plain data.
//
// Invariants (of the program under test):
//   WO1. Every read gives what the plain side has.
//   WO2. A completed snapshot, restored at any parallelism, is exactly the plain side at its cut: no row more or less.
//   WO3. After a crash the operator goes on from the last completed snapshot, whatever was in flight.
//   WO4. A timer fires once, when its time has come, in the order of time, under its key; overdue ones fire after a restore.
//   WO5. A part with a changed bit, or cut off, is refused by a Failure.
//   WO6. The same seed does the same things.
//
// Not here: what is done to one state (twins.ts).

import { crc32c, isFailure, keyGroupOf, keyGroupRange, SeededRng, subtaskOfKeyGroup } from "@sluice/kit";
import type { Rng } from "@sluice/kit/env";

import { keyHasher, Types } from "../../src/model/index.ts";
import type { CheckpointId, StateTtlConfig, TimerService, TypeDescriptor } from "../../src/model/index.ts";
import { HeapKeyedStateBackend } from "../../src/state/index.ts";
import type { KeyedSnapshot, RestoredPart } from "../../src/state/index.ts";
import {
  AggregatingTwin,
  alive,
  begin,
  BOOLEANS,
  ListTwin,
  LONGS,
  MapTwin,
  Mismatch,
  ReducingTwin,
  rowsOf,
  ROWS,
  same,
  TEXTS,
  ValueTwin,
} from "./twins.ts";
import type { Plain, Twin } from "./twins.ts";

const UID = "operator";
const SNAPSHOTS_MAX = 4;

/** What one key has, by state name, and its timers. */
interface PlainKey {
  readonly key: unknown;
  readonly states: Map<string, Plain>;
  readonly timers: Set<number>;
}

/** By the text of the key. */
type PlainSide = Map<string, PlainKey>;

interface Completed {
  readonly parts: readonly RestoredPart[];
  readonly plain: PlainSide;
  readonly cutMs: number;
}

interface InFlight {
  readonly snapshots: readonly KeyedSnapshot[];
  readonly plain: PlainSide;
  readonly cutMs: number;
}

interface Subtask {
  readonly range: readonly [first: number, last: number];
  readonly backend: HeapKeyedStateBackend;
  readonly handles: ReadonlyMap<string, unknown>;
  readonly timers: TimerService;
}

/** What a run did: a world in which nothing happened proves nothing. */
export interface Totals {
  operations: number;
  snapshots: number;
  aborts: number;
  crashes: number;
  rescales: number;
  fired: number;
  damaged: number;
  /** Over everything that was done and seen (WO6). */
  digest: number;
}

const KEY_TYPES: readonly { readonly type: TypeDescriptor; readonly keyOf: (i: number) => unknown }[] = [
  { type: Types.LONG().descriptor, keyOf: (i) => i * 1_000_003 - 500 },
  { type: Types.STRING().descriptor, keyOf: (i) => `${"ü".repeat(i % 3)}key-${i}` },
  { type: Types.TUPLE(Types.STRING(), Types.INT()).descriptor, keyOf: (i) => [`t${i % 10}`, i] },
];

export class KeyedWorld {
  readonly totals: Totals = {
    operations: 0,
    snapshots: 0,
    aborts: 0,
    crashes: 0,
    rescales: 0,
    fired: 0,
    damaged: 0,
    digest: 0,
  };
  readonly #rng: Rng;
  readonly #keyType: TypeDescriptor;
  readonly #keys: readonly unknown[];
  readonly #hashOf: (key: unknown) => number;
  readonly #maxParallelism: number;
  readonly #twins: readonly Twin<unknown>[];
  #nowMs = 1_700_000_000_000;
  #tickMs = 0;
  #plain: PlainSide = new Map();
  #subtasks: readonly Subtask[] = [];
  #inFlight: InFlight[] = [];
  #completed: Completed | undefined = undefined;
  #checkpointId = 0;

  constructor(seed: number) {
    this.#rng = new SeededRng(seed);
    const rng = this.#rng;
    const kind = KEY_TYPES[rng.below(KEY_TYPES.length)] as (typeof KEY_TYPES)[number];
    this.#keyType = kind.type;
    const keyCount = [3, 30, 700][rng.below(3)] as number;
    this.#keys = Array.from({ length: keyCount }, (_, i) => kind.keyOf(i));
    this.#hashOf = keyHasher(kind.type, { wrongKey: () => new TypeError("wrong key") as never, acceptsNaN: true });
    this.#maxParallelism = [4, 16, 128][rng.below(3)] as number;
    const ttl = (mayBeSeen = rng.chance(0.3)): StateTtlConfig => ({
      ttlMs: 50 + rng.below(400),
      updateType: rng.chance(0.5) ? "OnReadAndWrite" : "OnCreateAndWrite",
      stateVisibility: mayBeSeen ? "ReturnExpiredIfNotCleanedUp" : "NeverReturnExpired",
    });
    const twins = [
      new ValueTwin("number", LONGS),
      new ValueTwin("boolean", BOOLEANS),
      new ValueTwin("row", ROWS),
      new ValueTwin("number-ttl", LONGS, ttl()),
      new ValueTwin("row-ttl", ROWS, ttl()),
      new ListTwin("list", LONGS),
      new ListTwin("rows", ROWS),
      new ListTwin("rows-ttl", ROWS, ttl()),
      new MapTwin("map", { keys: TEXTS, values: LONGS }),
      new MapTwin("map-rows", { keys: ROWS, values: ROWS }),
      new MapTwin("map-ttl", { keys: LONGS, values: ROWS }, ttl()),
      new ReducingTwin("sum"),
      // What is added to a value that may be seen although it has expired depends on whether it was cleaned up: not here.
      new ReducingTwin("sum-ttl", ttl(false)),
      new AggregatingTwin("mean"),
      new AggregatingTwin("mean-ttl", ttl(false)),
    ] as readonly Twin<unknown>[];
    // Few states see much more of each other than many do. Timers need the sum.
    const share = [0.25, 0.6, 1][rng.below(3)] as number;
    this.#twins = twins.filter(({ name }) => rng.chance(share) || name === "sum");
    this.#subtasks = this.#start(1 + rng.below(Math.min(4, this.#maxParallelism)), undefined);
  }

  /** Does so many things. @throws Mismatch, or whatever the program under test throws. */
  run(operationCount: number): void {
    for (let i = 0; i < operationCount; i += 1) {
      const choice = this.#rng.below(100);
      this.totals.operations += 1;
      if (choice < 66) this.#operate();
      else if (choice < 72) this.#timer();
      else if (choice < 76) this.#advance(this.#rng.below(40));
      else if (choice < 78) this.#sweep();
      else if (choice < 82) this.#snapshot();
      else if (choice < 95) this.#step();
      else if (choice < 96) this.#abort();
      else if (choice < 98) this.#complete();
      else if (choice < 99) this.#crash();
      else this.#damage();
    }
    this.#snapshot();
    this.#complete();
  }

  // ---- what users do

  #operate(): void {
    const twin = this.#twins[this.#rng.below(this.#twins.length)] as Twin<unknown>;
    const { subtask, plain } = this.#enter(this.#anyKey());
    const before = plain.states.get(twin.name);
    // A few in a row, as a record does.
    let after = before;
    for (let i = this.#rng.below(4); i >= 0; i -= 1)
      after = twin.operate(subtask.handles.get(twin.name), after, { rng: this.#rng, nowMs: this.#nowMs });
    if (after === undefined) plain.states.delete(twin.name);
    else plain.states.set(twin.name, after);
    this.#note(twin.name);
  }

  #timer(): void {
    const { subtask, plain } = this.#enter(this.#anyKey());
    for (let i = this.#rng.below(6); i >= 0; i -= 1) {
      const timestampMs = this.#nowMs - 5 + this.#rng.below(120);
      if (this.#rng.chance(0.25)) {
        const other = [...plain.timers][0] ?? timestampMs;
        subtask.timers.deleteProcessingTimeTimer(other);
        plain.timers.delete(other);
      } else {
        subtask.timers.registerProcessingTimeTimer(timestampMs);
        plain.timers.add(timestampMs);
      }
    }
    this.#note("timer");
  }

  /** WO4. The plain side fires key by key: a timer acts on its own key only. */
  #advance(byMs: number): void {
    this.#nowMs += byMs;
    const fired = new Map<string, number[]>();
    this.#onTimer = (text, timestampMs) => fired.set(text, [...(fired.get(text) ?? []), timestampMs]);
    for (const { backend } of this.#subtasks) {
      this.#lastFiredMs = 0;
      while (backend.fireTimers(this.#nowMs, 1 + this.#rng.below(5)) > 0);
      if (backend.nextTimerMs <= this.#nowMs) throw new Mismatch(`a timer is due and did not fire`);
    }
    this.#onTimer = () => undefined;
    for (const [text, plain] of this.#plain) {
      const expected: number[] = [];
      for (;;) {
        const due = [...plain.timers].filter((timestampMs) => timestampMs <= this.#nowMs);
        if (due.length === 0) break;
        const first = Math.min(...due);
        plain.timers.delete(first);
        expected.push(first);
        const next = followUp(first);
        if (next !== undefined) plain.timers.add(next);
        const sum = alive(plain.states.get("sum"), this.#ttlOf("sum"), this.#nowMs) as { value: number } | undefined;
        plain.states.set("sum", { value: (sum?.value ?? 0) + 1, timeMs: this.#nowMs });
      }
      same(`timers of ${text}`, (fired.get(text) ?? []).toSorted(ascending), expected.toSorted(ascending));
      fired.delete(text);
      this.totals.fired += expected.length;
    }
    same("timers of other keys", [...fired.keys()], []);
    this.#note("advance");
  }

  #ttlOf(name: string): StateTtlConfig | undefined {
    return this.#twins.find((twin) => twin.name === name)?.ttl;
  }

  #onTimer: (text: string, timestampMs: number) => void = () => undefined;
  #lastFiredMs = 0;

  #sweep(): void {
    for (const { backend } of this.#subtasks) backend.sweepExpired(1 + this.#rng.below(200));
  }

  // ---- what checkpoints do

  #snapshot(): void {
    if (this.#inFlight.length === SNAPSHOTS_MAX) return;
    this.#checkpointId += 1;
    const snapshots = this.#subtasks.map(({ backend }) => backend.snapshot(this.#checkpointId as CheckpointId));
    this.#inFlight.push({ snapshots, plain: this.#cut(), cutMs: this.#nowMs });
    this.totals.snapshots += 1;
    this.#note("snapshot");
  }

  /** The plain side as a snapshot holds it: without what has expired. */
  #cut(): PlainSide {
    const cut: PlainSide = new Map();
    for (const [text, { key, states, timers }] of this.#plain) {
      const living = new Map<string, Plain>();
      for (const { name, ttl } of this.#twins) {
        const left = alive(states.get(name), ttl, this.#nowMs);
        if (left !== undefined) living.set(name, structuredClone(left));
      }
      if (living.size > 0 || timers.size > 0) cut.set(text, { key, states: living, timers: new Set(timers) });
    }
    return cut;
  }

  #step(): void {
    const pending = this.#inFlight[this.#rng.below(Math.max(1, this.#inFlight.length))];
    const snapshot = pending?.snapshots[this.#rng.below(pending.snapshots.length)];
    for (let i = this.#rng.below(8); i >= 0; i -= 1) snapshot?.step(0);
  }

  #abort(): void {
    const pending = this.#takeInFlight();
    if (pending === undefined) return;
    for (const snapshot of pending.snapshots) snapshot.release();
    this.totals.aborts += 1;
    this.#note("abort");
  }

  #complete(): void {
    const pending = this.#takeInFlight();
    if (pending === undefined) return;
    const parts = pending.snapshots.flatMap((snapshot) => {
      while (!snapshot.step(0));
      return snapshot.parts().map(({ stateName, keyGroups, chunks }) => {
        const bytes = new Uint8Array(Buffer.concat(chunks));
        this.totals.digest = (Math.imul(this.totals.digest, 31) + crc32c(bytes)) | 0;
        return { stateName, keyGroups: keyGroups ?? ([0, 0] as const), bytes };
      });
    });
    const completed = { parts, plain: pending.plain, cutMs: pending.cutMs };
    this.#verify(completed);
    // An older one may complete after a newer one; the newest counts.
    if ((this.#completed?.cutMs ?? 0) <= completed.cutMs) this.#completed = completed;
  }

  #takeInFlight(): InFlight | undefined {
    if (this.#inFlight.length === 0) return undefined;
    return this.#inFlight.splice(this.#rng.below(this.#inFlight.length), 1)[0];
  }

  /** WO2, at another parallelism, with the clock at the cut, so that nothing expires meanwhile. */
  #verify(completed: Completed): void {
    const nowMs = this.#nowMs;
    this.#nowMs = completed.cutMs;
    const live = this.#subtasks;
    const subtasks = this.#start(this.#anyParallelism(), completed.parts);
    let [rows, expectedRows] = [0, 0];
    for (const { backend } of subtasks) rows += backend.entryCount;
    for (const { states, timers } of completed.plain.values()) {
      expectedRows += timers.size;
      for (const plain of states.values()) expectedRows += rowsOf(plain);
    }
    this.#subtasks = subtasks;
    for (const key of this.#keys) {
      const text = JSON.stringify(key);
      const subtask = this.#route(key);
      for (const twin of this.#twins)
        twin.compare(subtask.handles.get(twin.name), completed.plain.get(text)?.states.get(twin.name));
    }
    same("rows of a restored snapshot", rows, expectedRows);
    this.#subtasks = live;
    this.#nowMs = nowMs;
  }

  /** WO3. A restart may give a state a time to live, or take it away. */
  #crash(): void {
    const { completed, parallelism } = { completed: this.#completed, parallelism: this.#anyParallelism() };
    if (parallelism !== this.#subtasks.length) this.totals.rescales += 1;
    this.totals.crashes += 1;
    this.#inFlight = [];
    this.#nowMs += this.#rng.below(300);
    this.#plain = structuredClone(completed?.plain ?? new Map()) as PlainSide;
    for (const twin of this.#twins) if (this.#rng.chance(0.15)) this.#changeTtl(twin);
    // Completed snapshots of before hold times that nobody has any more.
    this.#subtasks = this.#start(parallelism, completed?.parts);
    this.#completed = undefined;
    this.#note("crash");
    this.#advance(0);
  }

  #changeTtl(twin: Twin<unknown>): void {
    const had = twin.ttl;
    twin.ttl =
      had === undefined
        ? { ttlMs: 50 + this.#rng.below(400) }
        : this.#rng.chance(0.5)
          ? undefined
          : { ...had, ttlMs: had.ttlMs * 2 };
    if (had !== undefined) return;
    for (const { states } of this.#plain.values()) {
      const plain = states.get(twin.name);
      if (plain !== undefined) begin(plain, this.#nowMs);
    }
  }

  /** WO5. */
  #damage(): void {
    const parts = this.#completed?.parts ?? [];
    const victim = parts[this.#rng.below(Math.max(1, parts.length))];
    if (victim === undefined) return;
    const bytes = victim.bytes.slice();
    // Rather in the blocks than in the header.
    const at = bytes.length - 1 - this.#rng.below(this.#rng.chance(0.3) ? bytes.length : Math.ceil(bytes.length / 3));
    bytes[at] = (bytes[at] as number) ^ (1 << this.#rng.below(8));
    const damaged = this.#rng.chance(0.7) ? bytes : victim.bytes.slice(0, at);
    const backend = this.#backend([0, this.#maxParallelism - 1]);
    this.totals.damaged += 1;
    try {
      backend.restore(parts.map((part) => (part === victim ? { ...part, bytes: damaged } : part)));
    } catch (thrown) {
      if (isFailure(thrown) && ["SNAPSHOT_DAMAGED", "FORMAT_UNSUPPORTED"].includes(thrown.code)) return;
      throw thrown;
    }
    throw new Mismatch(`a part of ${victim.bytes.length} bytes that was damaged at ${at} was restored`);
  }

  // ---- the operator

  #backend(range: readonly [number, number]): HeapKeyedStateBackend {
    return new HeapKeyedStateBackend({
      keyType: this.#keyType,
      keyGroups: range,
      maxParallelism: this.#maxParallelism,
      uid: UID,
      // Every look at the clock takes a millisecond: a step of no budget is one portion.
      clock: { nowMs: () => (this.#tickMs += 1), wallMs: () => this.#nowMs },
    });
  }

  #start(parallelism: number, parts: readonly RestoredPart[] | undefined): readonly Subtask[] {
    return Array.from({ length: parallelism }, (_, index) => {
      const { first, last } = keyGroupRange(index, this.#maxParallelism, parallelism);
      const backend = this.#backend([first, last]);
      // As the scheduler does: every part that overlaps.
      if (parts !== undefined)
        backend.restore(parts.filter(({ keyGroups }) => keyGroups[0] <= last && keyGroups[1] >= first));
      const handles = new Map(this.#twins.map((twin) => [twin.name, twin.declare(backend)] as const));
      const sum = handles.get("sum") as { add(value: number): void };
      const timers = backend.getTimerService({
        onProcessingTime: (timestampMs) => {
          if (timestampMs < this.#lastFiredMs) throw new Mismatch("timers fire in the order of time");
          this.#lastFiredMs = timestampMs;
          this.#onTimer(JSON.stringify(backend.getCurrentKey()), timestampMs);
          const next = followUp(timestampMs);
          if (next !== undefined) timers.registerProcessingTimeTimer(next);
          sum.add(1);
        },
      });
      backend.opened();
      return { range: [first, last], backend, handles, timers };
    });
  }

  #enter(key: unknown): { readonly subtask: Subtask; readonly plain: PlainKey } {
    const text = JSON.stringify(key);
    const plain = this.#plain.get(text) ?? { key, states: new Map<string, Plain>(), timers: new Set<number>() };
    this.#plain.set(text, plain);
    return { subtask: this.#route(key), plain };
  }

  #route(key: unknown): Subtask {
    const hash = this.#hashOf(key);
    const parallelism = this.#subtasks.length;
    const index = subtaskOfKeyGroup(keyGroupOf(hash, this.#maxParallelism), this.#maxParallelism, parallelism);
    const subtask = this.#subtasks[index] as Subtask;
    subtask.backend.setCurrentKey(key, hash);
    return subtask;
  }

  /** Some keys are much more frequent than others. */
  #anyKey(): unknown {
    const count = this.#rng.chance(0.5) ? Math.min(5, this.#keys.length) : this.#keys.length;
    return this.#keys[this.#rng.below(count)];
  }

  #anyParallelism(): number {
    return 1 + this.#rng.below(Math.min(5, this.#maxParallelism));
  }

  #note(what: string): void {
    this.totals.digest = (Math.imul(this.totals.digest, 31) + what.length + this.totals.operations) | 0;
  }
}

/** Some timers register another one, now and then for a time that has passed. */
function followUp(timestampMs: number): number | undefined {
  if (timestampMs % 3 !== 0) return undefined;
  return timestampMs % 2 === 0 ? timestampMs + 7 : timestampMs + 61;
}

function ascending(a: number, b: number): number {
  return a - b;
}
