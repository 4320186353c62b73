// Output edge to input gate: order, exactness, routing and backpressure, against a model of plain arrays.

import { describe, expect, test } from "@jest/globals";
import * as fc from "fast-check";
import { hashLong, hashString, isFailure, keyGroupOf, subtaskOfKeyGroup } from "@sluice/kit";
import type { Barrier, CheckpointId, Partitioning, TypeDescriptor } from "../model/index.ts";
import type { CodecMode } from "./codec/codec.ts";
import { Doorbell } from "./doorbell.ts";
import { InputGate } from "./input-gate.ts";
import { RecordWriter } from "./record-writer.ts";
import { allocateRing, RingConsumer, RingProducer } from "./ring.ts";

const LONG: TypeDescriptor = { kind: "LONG" };
const STRING: TypeDescriptor = { kind: "STRING" };
const PAIR: TypeDescriptor = { kind: "TUPLE", fields: [LONG, STRING] };
const SLOT_BYTES = 256;

interface Edge {
  readonly writer: RecordWriter;
  /** One gate per target subtask, each with one channel of this edge. */
  readonly gates: readonly InputGate[];
  readonly consumers: readonly RingConsumer[];
  readonly slotBell: Doorbell;
}

function makeEdge(options: {
  readonly partitioning: Partitioning;
  readonly targets: number;
  readonly type: TypeDescriptor;
  readonly keySelector?: (record: unknown) => unknown;
  readonly keyType?: TypeDescriptor;
  readonly partitioner?: (key: unknown, count: number) => number;
  readonly slotCount?: number;
  readonly subtaskIndex?: number;
  readonly codecMode?: CodecMode;
}): Edge {
  const rings = Array.from({ length: options.targets }, () =>
    allocateRing({ slotCount: options.slotCount ?? 4, slotBytes: SLOT_BYTES }),
  );
  const slotBell = new Doorbell(Doorbell.allocate());
  const consumerBell = new Doorbell(Doorbell.allocate());
  const writer = new RecordWriter({
    maxParallelism: 128,
    subtaskIndex: 0,
    edge: `"a" -> "b"`,
    ...options,
    channels: rings.map((ring) => new RingProducer(ring, consumerBell)),
  });
  const consumers = rings.map((ring) => new RingConsumer(ring, slotBell));
  const gates = consumers.map(
    (ring, i) =>
      new InputGate({
        channels: [{ ring, inputIndex: 0, type: options.type, edge: "e", name: `channel ${i}` }],
        ...(options.codecMode === undefined ? {} : { codecMode: options.codecMode }),
      }),
  );
  return { writer, gates, consumers, slotBell };
}

const OPEN = new Uint8Array(8);

/** Takes at most `headsMax` heads of a gate; a barrier as `barrier n`, the end as `end`. */
function take(gate: InputGate, headsMax = Infinity): unknown[] {
  const seen: unknown[] = [];
  for (let i = 0; i < headsMax; i += 1) {
    const channel = gate.nextReady(OPEN);
    if (channel < 0) break;
    const head = gate.head(channel);
    if (head.kind === "BARRIER") seen.push(`barrier ${head.barrier?.checkpointId}`);
    else if (head.kind === "END_OF_DATA") seen.push("end");
    for (; head.cursor < head.rowCount; head.cursor += 1) seen.push(head.reader.read(head.cursor));
    gate.consume(channel);
  }
  return seen;
}

function barrier(id: number): Barrier {
  return { checkpointId: id as CheckpointId, timestampMs: 1_700_000_000_000 + id, isFinal: id % 2 === 0 };
}

/** What may happen to an edge: rows of some size, barriers, flushes, a receiver that takes frames, a task that drains. */
const script = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: fc.constant("emit" as const), count: fc.integer({ min: 1, max: 20 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant("emitLarge" as const), count: fc.integer({ min: 100, max: 2000 }) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("barrier" as const), count: fc.constant(1) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("flush" as const), count: fc.constant(1) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("take" as const), count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("drain" as const), count: fc.constant(1) }) },
  ),
  { maxLength: 80 },
);

describe("record writer and input gate", () => {
  /** Which of `targets` channels row n goes to; undefined: chance decides. */
  const targetOf: Readonly<Record<Partitioning, (n: number, targets: number) => readonly number[] | undefined>> = {
    FORWARD: () => [0],
    HASH: (n, targets) => [subtaskOfKeyGroup(keyGroupOf(hashLong(n), 128), 128, targets)],
    REBALANCE: (n, targets) => [n % targets],
    RESCALE: (n, targets) => [n % targets],
    SHUFFLE: () => undefined,
    GLOBAL: () => [0],
    BROADCAST: (_, targets) => Array.from({ length: targets }, (_, i) => i),
    CUSTOM: (n, targets) => [(n * 7) % targets],
  };

  test.each(Object.entries(targetOf) as [Partitioning, (typeof targetOf)[Partitioning]][])(
    "RW1, RW3, OC1, OC2, IG1, EM2, EM3: %s keeps order per channel, loses and doubles nothing, cuts exactly at barriers, also through staging",
    (partitioning, goesTo) => {
      fc.assert(
        fc.property(
          script,
          fc.constantFrom<CodecMode>("generated", "interpreted"),
          fc.constantFrom(1, 4),
          fc.boolean(),
          (steps, codecMode, slotCount, isGeneric) => {
            const targets = partitioning === "FORWARD" ? 1 : 3;
            const edge = makeEdge({
              partitioning,
              targets,
              type: isGeneric ? { kind: "GENERIC" } : PAIR,
              keySelector: (record) => (record as [number, string])[0],
              keyType: LONG,
              partitioner: (key, count) => ((key as number) * 7) % count,
              slotCount,
              codecMode,
            });
            const log: unknown[] = [];
            const received: unknown[][] = Array.from({ length: targets }, () => []);
            let n = 0;
            let id = 0;
            const emit = (text: string): void => {
              log.push([n, text]);
              edge.writer.emit([n, text]);
              n += 1;
            };
            const takeAll = (headsMax: number): void =>
              edge.gates.forEach((gate, i) => (received[i] as unknown[]).push(...take(gate, headsMax)));
            for (const step of steps) {
              if (step.do === "emit") for (let i = 0; i < step.count; i += 1) emit(`row ${n % 7}`);
              else if (step.do === "emitLarge") emit("ä".repeat(step.count) + (n % 2 === 0 ? "☃" : ""));
              else if (step.do === "flush") edge.writer.flush();
              else if (step.do === "take") takeAll(step.count);
              else if (step.do === "drain") edge.writer.drain();
              else {
                id += 1;
                edge.writer.broadcastBarrier(barrier(id));
                log.push(`barrier ${id}`);
              }
              // RW2: staged frames are never hidden behind `available`.
              expect(edge.writer.stagedFrames > 0 && edge.writer.available).toBe(false);
            }
            edge.writer.broadcastEndOfData();
            log.push("end");
            for (
              let turns = 0;
              turns < 10_000 && !(edge.writer.drain() && received.every((of) => of.at(-1) === "end"));
              turns += 1
            )
              takeAll(1);
            const places = new Map<number, number[]>();
            received.forEach((of, target) => {
              for (const row of of)
                if (Array.isArray(row)) places.set(row[0] as number, [...(places.get(row[0] as number) ?? []), target]);
            });
            for (const [row, found] of places) {
              if (goesTo(row, targets) === undefined) expect(found).toHaveLength(1);
              else expect(found).toEqual(goesTo(row, targets));
            }
            expect(places.size).toBe(n);
            expect(received).toEqual(
              received.map((_, target) =>
                log.filter((entry) => !Array.isArray(entry) || places.get(entry[0] as number)?.includes(target)),
              ),
            );
            const rows = partitioning === "BROADCAST" ? n * targets : n;
            expect([edge.writer.rowsWritten, edge.writer.stagedFrames, edge.writer.hasPending]).toEqual([
              rows,
              0,
              false,
            ]);
            expect(edge.gates.reduce((sum, gate) => sum + gate.rowsRead, 0)).toBe(rows);
            expect(edge.gates.every((gate) => gate.isEnded(0))).toBe(true);
          },
        ),
        { numRuns: 40 },
      );
    },
  );

  test("SHUFFLE spreads evenly, and subtasks differ", () => {
    const counts = [0, 1].map((subtaskIndex) => {
      const edge = makeEdge({ partitioning: "SHUFFLE", targets: 3, type: LONG, slotCount: 64, subtaskIndex });
      for (let i = 0; i < 600; i += 1) edge.writer.emit(i);
      edge.writer.flush();
      return edge.gates
        .map((gate) => gate.head(gate.nextReady(OPEN)).reader.read(0) as number)
        .concat(edge.gates.map((gate) => take(gate).length));
    });
    for (const count of counts.flatMap((of) => of.slice(3))) expect(Math.abs(count - 200)).toBeLessThan(50);
    expect(counts[0]).not.toEqual(counts[1]);
  });

  test.each([-1, 3, 0.5, NaN, "1"])("EM4: a partitioner that returns %p fails with the edge's name", (answer) => {
    const edge = makeEdge({
      partitioning: "CUSTOM",
      targets: 3,
      type: LONG,
      keySelector: (record) => record,
      partitioner: () => answer as number,
    });
    expect(() => edge.writer.emit(1)).toThrow(`the partitioner of "a" -> "b" returned ${answer} for 3 partitions`);
    expect(edge.writer.rowsWritten).toBe(0);
  });

  test("RW2: a broadcast stops for its slowest channel", () => {
    const edge = makeEdge({ partitioning: "BROADCAST", targets: 2, type: LONG, slotCount: 2 });
    const [fast, slow] = edge.gates as [InputGate, InputGate];
    const seen: unknown[] = [];
    let n = 0;
    while (edge.writer.available) {
      edge.writer.emit((n += 1));
      edge.writer.flush();
      seen.push(...take(fast));
    }
    expect(seen).toHaveLength(2);
    expect(edge.writer.drain()).toBe(false);
    expect(take(slow, 1)).toEqual([1]);
    expect(edge.writer.drain()).toBe(true);
  });

  test("RW2: without credit rows are staged, the writer says so, and a release rings the task's bell", () => {
    const edge = makeEdge({ partitioning: "FORWARD", targets: 1, type: LONG, slotCount: 2 });
    let n = 0;
    while (edge.writer.available) {
      edge.writer.emit((n += 1));
      edge.writer.flush();
    }
    // It says so when the last slot is gone, not only when rows are on the heap.
    expect([n, edge.writer.stagedFrames, edge.writer.hasPending]).toEqual([2, 0, false]);
    for (let i = 0; i < 100; i += 1) edge.writer.emit((n += 1));
    expect(edge.writer.stagedFrames).toBeGreaterThan(0);
    expect(edge.writer.drain()).toBe(false);
    const before = edge.slotBell.sequence();
    const gate = edge.gates[0] as InputGate;
    const seen = take(gate, 1);
    expect(edge.slotBell.sequence()).toBe(before + 1);
    while (!edge.writer.drain()) seen.push(...take(gate, 1));
    edge.writer.flush();
    seen.push(...take(gate));
    expect(seen).toEqual(Array.from({ length: n }, (_, i) => i + 1));
  });

  test("EM1: keyed rows arrive at the owner of their key group, with their hash", () => {
    const targets = 5;
    const edge = makeEdge({
      partitioning: "HASH",
      targets,
      type: PAIR,
      keySelector: (r) => (r as [number, string])[1],
      keyType: STRING,
      slotCount: 64,
    });
    for (let i = 0; i < 200; i += 1) edge.writer.emit([i, `a rather long key ${i % 50}`]);
    edge.writer.flush();
    let rows = 0;
    edge.gates.forEach((gate, target) => {
      while (gate.nextReady(OPEN) >= 0) {
        const head = gate.head(0);
        for (; head.cursor < head.rowCount; head.cursor += 1) {
          const [, key] = head.reader.read(head.cursor) as [number, string];
          expect(head.reader.hash(head.cursor)).toBe(hashString(key));
          expect(subtaskOfKeyGroup(keyGroupOf(hashString(key), 128), 128, targets)).toBe(target);
          rows += 1;
        }
        gate.consume(0);
      }
    });
    expect(rows).toBe(200);
  });

  const wrongKeys: readonly (readonly [TypeDescriptor, unknown])[] = [
    [LONG, undefined],
    [LONG, NaN],
    [LONG, "1"],
    [STRING, null],
    [STRING, 1],
    [{ kind: "DOUBLE" }, NaN],
    [{ kind: "TUPLE", fields: [LONG, STRING] }, [1, undefined]],
  ];
  test.each(wrongKeys)("KH2: a key of the wrong type fails with the edge's name (%j, %p)", (keyType, key) => {
    const edge = makeEdge({
      partitioning: "HASH",
      targets: 2,
      type: { kind: "GENERIC" },
      keySelector: () => key,
      keyType,
    });
    let thrown: unknown;
    try {
      edge.writer.emit({ any: "record" });
    } catch (error) {
      thrown = error;
    }
    expect(isFailure(thrown) && thrown.code === "TYPE_MISMATCH" && thrown.message).toContain(
      `the key selector of "a" -> "b" returned`,
    );
    expect(edge.writer.rowsWritten).toBe(0);
  });

  test.each(["generated", "interpreted"] as const)(
    "RW4: a GENERIC edge infers columns and goes over to tagged values visibly (%s)",
    (codecMode) => {
      const edge = makeEdge({
        partitioning: "FORWARD",
        targets: 1,
        type: { kind: "GENERIC" },
        slotCount: 64,
        codecMode,
      });
      const flat = [
        { a: 1, b: "x" },
        { a: -0.5, b: "ü☃" },
      ];
      const deviating = [
        { a: 1 },
        { a: 1, b: "x", c: 2 },
        { a: "1", b: "x" },
        null,
        [1, "x"],
        new Map([[1, { a: undefined }]]),
        { a: 1, b: "y" },
      ];
      for (const record of flat) edge.writer.emit(record);
      expect(edge.writer.taggedChannels).toBe(0);
      for (const record of deviating) edge.writer.emit(record);
      edge.writer.emit({ a: 1, b: "z".repeat(2000) });
      expect(edge.writer.taggedChannels).toBe(1);
      edge.writer.flush();
      expect(take(edge.gates[0] as InputGate)).toStrictEqual([...flat, ...deviating, { a: 1, b: "z".repeat(2000) }]);
    },
  );

  test("RW4: a GENERIC edge whose first record is not flat is tagged from the start", () => {
    const edge = makeEdge({ partitioning: "REBALANCE", targets: 2, type: { kind: "GENERIC" }, slotCount: 64 });
    for (const record of [{ deep: [1] }, 1, "x", { a: 1 }]) edge.writer.emit(record);
    edge.writer.flush();
    expect(edge.writer.taggedChannels).toBe(2);
    expect(edge.gates.map((gate) => take(gate))).toEqual([
      [{ deep: [1] }, "x"],
      [1, { a: 1 }],
    ]);
  });

  test("RC1: a refused record is not sent and the edge goes on", () => {
    const edge = makeEdge({ partitioning: "FORWARD", targets: 1, type: PAIR });
    edge.writer.emit([1, "a"]);
    expect(() => edge.writer.emit([1.5, "b"])).toThrow("field f0 must be LONG");
    edge.writer.emit([2, "c"]);
    edge.writer.flush();
    expect(take(edge.gates[0] as InputGate)).toEqual([
      [1, "a"],
      [2, "c"],
    ]);
  });

  test("RC1: a record over the slot size that is refused leaves the edge usable", () => {
    const edge = makeEdge({
      partitioning: "FORWARD",
      targets: 1,
      type: { kind: "TUPLE", fields: [STRING, LONG] },
      slotCount: 16,
    });
    edge.writer.emit(["a", 1]);
    expect(() => edge.writer.emit(["b".repeat(1000), 0.5])).toThrow("field f1 must be LONG");
    edge.writer.emit(["c".repeat(1000), 3]);
    edge.writer.flush();
    expect(take(edge.gates[0] as InputGate)).toEqual([
      ["a", 1],
      ["c".repeat(1000), 3],
    ]);
  });

  test("IG2, IG3: channels take turns, a blocked one is left alone, rows stop in the middle of a batch", () => {
    const rings = [0, 1, 2].map(() => allocateRing({ slotCount: 4, slotBytes: SLOT_BYTES }));
    const slotBell = new Doorbell(Doorbell.allocate());
    const gate = new InputGate({
      channels: rings.map((ring, i) => ({
        ring: new RingConsumer(ring, slotBell),
        inputIndex: i === 2 ? 1 : 0,
        type: LONG,
        edge: i === 2 ? "right" : "left",
        name: `channel ${i}`,
      })),
    });
    rings.forEach((ring, i) => {
      const writer = new RecordWriter({
        channels: [new RingProducer(ring, slotBell)],
        partitioning: "FORWARD",
        type: LONG,
        maxParallelism: 1,
        subtaskIndex: 0,
        edge: "e",
      });
      for (let batch = 0; batch < 2; batch += 1) {
        for (let row = 0; row < 3; row += 1) writer.emit(i * 100 + batch * 10 + row);
        writer.flush();
      }
    });
    const blocked = Uint8Array.of(0, 1, 0);
    const turns: number[] = [];
    const rows: unknown[] = [];
    for (let channel = gate.nextReady(blocked); channel >= 0; channel = gate.nextReady(blocked)) {
      turns.push(channel);
      const head = gate.head(channel);
      expect(head.inputIndex).toBe(channel === 2 ? 1 : 0);
      const until = Math.min(head.rowCount, head.cursor + 2);
      for (; head.cursor < until; head.cursor += 1) rows.push(head.reader.read(head.cursor));
      if (head.cursor === head.rowCount) gate.consume(channel);
    }
    expect(turns).toEqual([0, 2, 0, 2, 0, 2, 0, 2]);
    expect(rows.filter((row) => (row as number) < 100)).toEqual([0, 1, 2, 10, 11, 12]);
    expect(gate.nextReady(Uint8Array.of(1, 0, 1))).toBe(1);
    expect(gate.head(1).reader.read(0)).toBe(100);
  });

  test("FR1: a gap in the sequence numbers stops the reader", () => {
    const edge = makeEdge({ partitioning: "FORWARD", targets: 1, type: LONG });
    edge.writer.emit(1);
    edge.writer.flush();
    edge.writer.emit(2);
    edge.writer.flush();
    const ring = edge.consumers[0] as RingConsumer;
    ring.memory.u32[(ring.offsetOf(1) >>> 2) + 2] = 7;
    const gate = edge.gates[0] as InputGate;
    expect(() => take(gate)).toThrow("IG1: channel 0 delivers frame 1, found 7");
  });
});

test("a barrier arrives as it was sent, also one of a savepoint", () => {
  const { writer, gates } = makeEdge({ partitioning: "FORWARD", targets: 1, type: PAIR });
  const location = "s3://bucket/savepoints with ü/savepoint-123456-0123456789ab";
  const sent: readonly Barrier[] = [
    barrier(1),
    barrier(2),
    { ...barrier(3), savepoint: { location, stops: false } },
    { ...barrier(4), savepoint: { location: `${location}7`, stops: true } },
  ];
  for (const one of sent) {
    writer.broadcastBarrier(one);
    const channel = gates[0]?.nextReady(OPEN) ?? -1;
    expect(gates[0]?.head(channel).barrier).toEqual(one);
    gates[0]?.consume(channel);
  }
});
