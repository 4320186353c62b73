// Micro benchmark of keyed state: setCurrentKey + value + update per CPU-second, the pauses while a snapshot is taken, and how
// fast it is encoded. Prints a table; the last line is JSON.
//
//   node bench/src/state-micro.ts [--quick]
//
// Each case runs in a process of its own: hot code that has seen one kind of state is not the code that has seen five.

import { spawnSync } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { hashLong, hashString } from "@sluice/kit";
import { HeapKeyedStateBackend } from "@sluice/runtime/internal/state";
import { ListStateDescriptor, MapStateDescriptor, Types, ValueStateDescriptor } from "@sluice/runtime/internal/model";
import type { CheckpointId, TypeDescriptor, ValueState } from "@sluice/runtime/internal/model";

const MAX_PARALLELISM = 128;
const BATCH = 1024;
const SLICE_MS = 2;

interface Case {
  readonly name: string;
  readonly keys: "LONG" | "STRING";
  readonly keyCount: number;
  readonly measure: "rate" | "touched rate" | "map" | "snapshot" | "collections" | "timers";
  readonly isLong: boolean;
}

const CASES: readonly Case[] = [
  { name: "LONG, 1 k keys", keys: "LONG", keyCount: 1_000, measure: "rate", isLong: false },
  { name: "LONG, 1 M keys", keys: "LONG", keyCount: 1_000_000, measure: "rate", isLong: false },
  { name: "LONG, 10 M keys", keys: "LONG", keyCount: 10_000_000, measure: "rate", isLong: true },
  { name: "LONG, 1 k keys, touched ahead", keys: "LONG", keyCount: 1_000, measure: "touched rate", isLong: false },
  { name: "LONG, 1 M keys, touched ahead", keys: "LONG", keyCount: 1_000_000, measure: "touched rate", isLong: false },
  { name: "LONG, 10 M keys, touched ahead", keys: "LONG", keyCount: 10_000_000, measure: "touched rate", isLong: true },
  { name: "STRING, 1 k keys", keys: "STRING", keyCount: 1_000, measure: "rate", isLong: false },
  { name: "STRING, 1 M keys", keys: "STRING", keyCount: 1_000_000, measure: "rate", isLong: false },
  { name: "STRING, 1 k keys, one JS Map", keys: "STRING", keyCount: 1_000, measure: "map", isLong: false },
  { name: "STRING, 1 M keys, one JS Map", keys: "STRING", keyCount: 1_000_000, measure: "map", isLong: false },
  {
    name: "LONG, 1 M keys, snapshot while writing",
    keys: "LONG",
    keyCount: 1_000_000,
    measure: "snapshot",
    isLong: false,
  },
  {
    name: "STRING, 1 M keys, snapshot while writing",
    keys: "STRING",
    keyCount: 1_000_000,
    measure: "snapshot",
    isLong: false,
  },
  { name: "list and map of 1 M under a snapshot", keys: "LONG", keyCount: 1, measure: "collections", isLong: false },
  { name: "timers, 1 M of 1 M keys", keys: "LONG", keyCount: 1_000_000, measure: "timers", isLong: false },
];

interface Input {
  readonly keys: readonly (number | string)[] | Float64Array;
  readonly hashes: Int32Array;
}

/** A key of 16 characters. */
function textOf(number: number): string {
  return `user-${String(number).padStart(11, "0")}`;
}

/**
 * `count` draws from `keyCount` keys. Strings are made for each draw, but used again in every pass: V8 then has their hash at
 * hand, which flatters the JS Map.
 */
function draw(test: Case, count: number): Input {
  const hashes = new Int32Array(count);
  const numbers = new Float64Array(count);
  let x = 0x9e3779b9;
  for (let i = 0; i < count; i += 1) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    numbers[i] = (x >>> 0) % test.keyCount;
  }
  if (test.keys === "LONG") {
    for (let i = 0; i < count; i += 1) hashes[i] = hashLong(numbers[i] as number);
    return { keys: numbers, hashes };
  }
  const texts = Array.from(numbers, textOf);
  for (let i = 0; i < count; i += 1) hashes[i] = hashString(texts[i] as string);
  return { keys: texts, hashes };
}

function cpuMs(run: () => void): number {
  const before = process.cpuUsage();
  run();
  const used = process.cpuUsage(before);
  return (used.user + used.system) / 1000;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

function prepare(test: Case): { backend: HeapKeyedStateBackend; state: ValueState<number>; fill: () => void } {
  const keyType: TypeDescriptor = { kind: test.keys };
  const backend = new HeapKeyedStateBackend({
    keyType,
    keyGroups: [0, MAX_PARALLELISM - 1],
    maxParallelism: MAX_PARALLELISM,
    uid: "bench",
    clock: { nowMs: () => performance.now(), wallMs: () => Date.now() },
  });
  const state = backend.getState(new ValueStateDescriptor("sum", Types.LONG()));
  const fill = (): void => {
    for (let i = 0; i < test.keyCount; i += 1) {
      const key = test.keys === "LONG" ? i : textOf(i);
      backend.setCurrentKey(key, typeof key === "number" ? hashLong(key) : hashString(key));
      state.update(0);
    }
  };
  return { backend, state, fill };
}

function process1(
  backend: HeapKeyedStateBackend,
  state: ValueState<number>,
  input: Input,
  range: { from: number; to: number },
): void {
  const { keys, hashes } = input;
  for (let i = range.from; i < range.to; i += 1) {
    backend.setCurrentKey(keys[i], hashes[i] as number);
    state.update((state.value() ?? 0) + 1);
  }
}

function rate(test: Case): Record<string, number> {
  const { backend, state, fill } = prepare(test);
  fill();
  const count = 1 << 22;
  const input = draw(test, test.keys === "LONG" ? count : count >> 2);
  const total = input.hashes.length;
  const ahead = new Int32Array(64);
  const rates: number[] = [];
  for (let pass = 0; pass < 9; pass += 1) {
    const ms = cpuMs(() => {
      for (let from = 0; from < total; from += BATCH) {
        if (test.measure === "touched rate") {
          for (let at = from; at < from + BATCH; at += 64) {
            if (backend.isTouchWorthwhile) {
              for (let i = 0; i < 64; i += 1) ahead[i] = input.hashes[at + i] as number;
              backend.touch(ahead, 64);
            }
            process1(backend, state, input, { from: at, to: at + 64 });
          }
        } else {
          process1(backend, state, input, { from, to: from + BATCH });
        }
      }
    });
    if (pass > 1) rates.push(total / ms / 1000);
  }
  return { mPerCpuSecond: median(rates), best: Math.max(...rates), rssMb: process.memoryUsage.rss() / 2 ** 20 };
}

function mapRate(test: Case): Record<string, number> {
  const map = new Map<unknown, number>();
  const input = draw(test, 1 << 20);
  const rates: number[] = [];
  for (let pass = 0; pass < 9; pass += 1) {
    const ms = cpuMs(() => {
      for (let i = 0; i < input.hashes.length; i += 1) map.set(input.keys[i], (map.get(input.keys[i]) ?? 0) + 1);
    });
    if (pass > 1) rates.push(input.hashes.length / ms / 1000);
  }
  return { mPerCpuSecond: median(rates), best: Math.max(...rates), rssMb: process.memoryUsage.rss() / 2 ** 20 };
}

/**
 * Batches of 1,024 records with a slice of encoding after each; the longest time between two records is measured, once over all
 * and once within batches only. String keys are made as they are used: a million kept for the benchmark would be what the
 * collector pauses for.
 */
function snapshot(test: Case): Record<string, number> {
  const { backend, state, fill } = prepare(test);
  fill();
  const numbers = draw({ ...test, keys: "LONG" }, 1 << 20).keys as Float64Array;
  const longestRecordMs: number[] = [];
  const longestGapMs: number[] = [];
  const encodeMs: number[] = [];
  const syncMs: number[] = [];
  let bytes = 0;
  let at = 0;
  for (let round = 0; round < 12; round += 1) {
    let record = 0;
    let gap = 0;
    let encoding = 0;
    let last = performance.now();
    const started = last;
    const snap = backend.snapshot(round as CheckpointId);
    syncMs.push(performance.now() - started);
    for (let done = false; !done;) {
      for (let i = 0; i < BATCH; i += 1) {
        const number = numbers[at] as number;
        const key = test.keys === "LONG" ? number : textOf(number);
        backend.setCurrentKey(key, typeof key === "number" ? hashLong(key) : hashString(key));
        state.update((state.value() ?? 0) + 1);
        at = (at + 1) % numbers.length;
        const now = performance.now();
        gap = Math.max(gap, now - last); // from record to record, whatever lies between: cut, encoding, collection
        if (i > 0) record = Math.max(record, now - last);
        last = now;
      }
      const before = performance.now();
      done = snap.step(SLICE_MS);
      encoding += performance.now() - before;
    }
    const parts = snap.parts();
    bytes = parts.reduce((sum, part) => sum + part.chunks.reduce((s, chunk) => s + chunk.length, 0), 0);
    longestRecordMs.push(record);
    longestGapMs.push(gap);
    encodeMs.push(encoding);
  }
  return {
    syncMs: median(syncMs),
    pauseMsMedian: median(longestGapMs),
    pauseMsMax: Math.max(...longestGapMs),
    withinBatchMsMedian: median(longestRecordMs),
    encodeMbPerSecond: bytes / 1e6 / (median(encodeMs) / 1000),
    snapshotMb: bytes / 1e6,
  };
}

/** Nanoseconds per operation on one large list and one large map, before and while a snapshot of them is taken. */
function collections(): Record<string, number> {
  const { backend } = prepare({ name: "", keys: "LONG", keyCount: 1, measure: "collections", isLong: false });
  const list = backend.getListState(new ListStateDescriptor("list", Types.LONG()));
  const map = backend.getMapState(new MapStateDescriptor("map", Types.LONG(), Types.TUPLE(Types.LONG())));
  const count = 1_000_000;
  backend.setCurrentKey(1, hashLong(1));
  const nsPer = (run: (i: number) => void): number =>
    (cpuMs(() => {
      for (let i = 0; i < count; i += 1) run(i);
    }) *
      1e6) /
    count;
  const nsPerAdd = nsPer((i) => list.add(i));
  const nsPerPut = nsPer((i) => map.put(i, [i]));
  const started = performance.now();
  const snap = backend.snapshot(1 as CheckpointId);
  const syncMs = performance.now() - started;
  const nsPerAddUnderSnapshot = nsPer((i) => list.add(i));
  const nsPerPutUnderSnapshot = nsPer((i) => map.put(i, [i]));
  let longestStepMs = 0;
  for (let done = false; !done;) {
    const before = performance.now();
    done = snap.step(SLICE_MS);
    longestStepMs = Math.max(longestStepMs, performance.now() - before);
  }
  return { nsPerAdd, nsPerPut, syncMs, nsPerAddUnderSnapshot, nsPerPutUnderSnapshot, longestStepMs };
}

/** A million timers, one per key: registering, the cut at the barrier, encoding, firing. */
function timers(test: Case): Record<string, number> {
  const { backend } = prepare(test);
  const input = draw({ ...test, keyCount: 0x7fffffff }, test.keyCount);
  let fired = 0;
  const service = backend.getTimerService({ onProcessingTime: () => (fired += 1) });
  const registerMs = cpuMs(() => {
    for (let i = 0; i < test.keyCount; i += 1) {
      backend.setCurrentKey(input.keys[i], input.hashes[i] as number);
      service.registerProcessingTimeTimer(((i * 7_919) % test.keyCount) + 1_700_000_000_000);
    }
  });
  const rssMb = process.memoryUsage.rss() / 2 ** 20;
  const syncs: number[] = [];
  const encodes: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const started = performance.now();
    const snap = backend.snapshot(round as CheckpointId);
    syncs.push(performance.now() - started);
    encodes.push(
      cpuMs(() => {
        while (!snap.step(SLICE_MS));
      }),
    );
  }
  const [syncMs, encodeMs] = [median(syncs), median(encodes)];
  const fireMs = cpuMs(() => {
    while (backend.fireTimers(Number.MAX_SAFE_INTEGER, 256) > 0);
  });
  return {
    nsPerRegister: (registerMs * 1e6) / test.keyCount,
    nsPerFire: (fireMs * 1e6) / fired,
    syncMs,
    encodeMs,
    rssMb,
  };
}

function runCase(test: Case): Record<string, number> {
  switch (test.measure) {
    case "rate":
    case "touched rate":
      return rate(test);
    case "map":
      return mapRate(test);
    case "snapshot":
      return snapshot(test);
    case "collections":
      return collections();
    case "timers":
      return timers(test);
  }
}

function main(arguments_: readonly string[]): void {
  const only = CASES.find((test) => test.name === arguments_[0]);
  if (only !== undefined) {
    process.stdout.write(JSON.stringify(runCase(only)));
    return;
  }
  const results: Record<string, Record<string, number>> = {};
  for (const test of CASES) {
    if (test.isLong && arguments_.includes("--quick")) continue;
    const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), test.name], { encoding: "utf8" });
    if (child.status !== 0) throw new Error(`${test.name}: ${child.stderr}`);
    const result = JSON.parse(child.stdout) as Record<string, number>;
    results[test.name] = result;
    const columns = Object.entries(result).map(([name, value]) => `${name} ${value.toFixed(value < 10 ? 2 : 1)}`);
    process.stdout.write(`${test.name.padEnd(42)} ${columns.join("  ")}\n`);
  }
  process.stdout.write(`${JSON.stringify(results)}\n`);
}

main(process.argv.slice(2));
