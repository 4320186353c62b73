// Partitioning and side outputs between real slots: who gets which record, and that all of them end and snapshot together.

import { describe, expect, test } from "@jest/globals";

import {
  type Collector,
  type DataStream,
  GeneratorSource,
  type JobMain,
  KeyedProcessFunction,
  type KeyedContext,
  OutputTag,
  ProcessFunction,
  type SideOutputContext,
  Types,
} from "../../src/index.ts";
import { ArraySink, Slots } from "../support/slots.ts";

const COUNT = 1_000;
const numbers = (count = COUNT): GeneratorSource<number> =>
  new GeneratorSource({ count, generate: (i) => i, type: Types.LONG() });
const ascending = (records: readonly number[]): readonly number[] => records.toSorted((a, b) => a - b);
const all = Array.from({ length: COUNT }, (_, i) => i);

describe("partitioning between two subtasks and four", () => {
  /** What subtask i of the sink has, as counts or as what all its records have in common. */
  test.each<readonly [string, (stream: DataStream<number>) => DataStream<number>, (sink: ArraySink<number>) => void]>([
    [
      "rebalance",
      (stream) => stream.rebalance(),
      (sink) => expect([...sink.bySubtask.values()].map(({ length }) => length)).toEqual([250, 250, 250, 250]),
    ],
    [
      "rescale",
      (stream) => stream.rescale(),
      (sink) => {
        // Even numbers come from subtask 0, which serves 0 and 1.
        for (const [subtask, records] of sink.bySubtask) {
          expect(records).toHaveLength(250);
          expect(new Set(records.map((n) => n % 2))).toEqual(new Set([subtask < 2 ? 0 : 1]));
        }
      },
    ],
    [
      "shuffle",
      (stream) => stream.shuffle(),
      (sink) => expect(Math.min(...[...sink.bySubtask.values()].map(({ length }) => length))).toBeGreaterThan(150),
    ],
    [
      "global",
      (stream) => stream.global(),
      (sink) =>
        expect([...sink.bySubtask].map(([subtask, { length }]) => subtask === 0 || length === 0)).toEqual([
          true,
          true,
          true,
          true,
        ]),
    ],
    [
      "partitionCustom",
      (stream) =>
        stream.partitionCustom(
          (key: number, count) => key % count,
          (n) => n + 1,
        ),
      (sink) => {
        for (const [subtask, records] of sink.bySubtask)
          expect(new Set(records.map((n) => (n + 1) % 4))).toEqual(new Set([subtask]));
      },
    ],
  ])("%s: every record once, and where it belongs", async (_name, spread, check) => {
    const sink = new ArraySink<number>();
    const slots = await Slots.start((env) => {
      const source = env.fromSource(numbers()).uid("n").setParallelism(2);
      spread(source).sinkTo(sink).setParallelism(4);
    });
    await slots.finish();
    expect(ascending(sink.records)).toEqual(all);
    check(sink);
  });

  test("broadcast: every record once in every subtask", async () => {
    const sink = new ArraySink<number>();
    const slots = await Slots.start((env) => {
      env.fromSource(numbers()).uid("n").setParallelism(2).broadcast().sinkTo(sink).setParallelism(4);
    });
    await slots.finish();
    expect([...sink.bySubtask.values()].map(ascending)).toEqual([all, all, all, all]);
  });

  test("a barrier passes all kinds of edges: what was snapshot at the source was seen behind every one of them", async () => {
    const sinks = Array.from({ length: 6 }, () => new ArraySink<number>());
    const count = 20_000;
    const main: JobMain = (env) => {
      const stream = env.fromSource(numbers(count)).uid("n").setParallelism(2);
      const streams: DataStream<number>[] = [
        stream.rebalance(),
        stream.rescale(),
        stream.shuffle(),
        stream.global(),
        stream.broadcast(),
        stream.partitionCustom(
          (key: number, count) => key % count,
          (n) => n,
        ),
      ];
      streams.forEach((of, i) => of.sinkTo(sinks[i] as ArraySink<number>).setParallelism(3));
    };
    const first = await Slots.start(main, { checkpointing: true });
    await first.until(() => sinks.every((sink) => sink.records.length > 100));
    const snapshot = await first.checkpoint(1);
    await first.cancel();
    const before = sinks.map((sink) => sink.recordsAt(1));
    const second = await Slots.start(main, { checkpointing: true, restore: snapshot });
    await second.finishWith(2);
    sinks.forEach((sink, i) => {
      const copies = i === 4 ? 3 : 1;
      const expected = Array.from({ length: count * copies }, (_, n) => Math.floor(n / copies));
      expect(ascending([...(before[i] ?? []), ...sink.records])).toEqual(expected);
    });
  });
});

const LATE = new OutputTag("late", Types.LONG());
const TEXT = new OutputTag("text", Types.STRING());

class Route extends ProcessFunction<number, number> {
  override processElement(n: number, ctx: SideOutputContext, out: Collector<number>): void {
    if (n % 3 === 0) ctx.output(LATE, n);
    else if (n % 3 === 1) ctx.output(TEXT, String(n));
    else out.collect(n);
  }
}

class KeyedRoute extends KeyedProcessFunction<number, number, number> {
  override processElement(n: number, ctx: KeyedContext<number>, out: Collector<number>): void {
    if (n % 2 === 0) ctx.output(LATE, ctx.getCurrentKey());
    else out.collect(n);
  }
}

describe("side outputs", () => {
  test("every record leaves by the output that the function chose, from the middle of a chain, to several readers", async () => {
    const [main, late, late2, text] = [
      new ArraySink<number>(),
      new ArraySink<number>(),
      new ArraySink<number>(),
      new ArraySink<string>(),
    ];
    const slots = await Slots.start((env) => {
      const routed = env.fromSource(numbers(), "n").uid("n").process(new Route(), Types.LONG()).name("route");
      routed.map((n) => n, Types.LONG()).sinkTo(main);
      routed.getSideOutput(LATE).sinkTo(late);
      routed.getSideOutput(LATE).rebalance().sinkTo(late2).setParallelism(2);
      routed.getSideOutput(TEXT).sinkTo(text);
    });
    expect(slots.plan.vertices.map(({ name }) => name)).toEqual([
      "n -> route -> map -> array",
      "array",
      "array",
      "array",
    ]);
    expect(slots.plan.vertices.flatMap(({ inputs }) => inputs.map(({ type }) => type.kind))).toEqual([
      "LONG",
      "LONG",
      "STRING",
    ]);
    await slots.finish();
    expect(main.records).toEqual(all.filter((n) => n % 3 === 2));
    expect(late.records).toEqual(all.filter((n) => n % 3 === 0));
    expect(ascending(late2.records)).toEqual(all.filter((n) => n % 3 === 0));
    expect(text.records).toEqual(all.filter((n) => n % 3 === 1).map(String));
    expect(slots.recordsOut("n")).toBe(late.records.length + text.records.length);
  });

  test("of a keyed function", async () => {
    const [main, late] = [new ArraySink<number>(), new ArraySink<number>()];
    const slots = await Slots.start((env) => {
      const routed = env
        .fromSource(numbers())
        .uid("n")
        .keyBy((n) => n % 10, Types.LONG())
        .process(() => new KeyedRoute(), Types.LONG())
        .uid("route")
        .setParallelism(2);
      routed.sinkTo(main).setParallelism(2);
      routed.getSideOutput(LATE).sinkTo(late);
    });
    await slots.finish();
    expect(main.records).toHaveLength(COUNT / 2);
    expect(new Set(late.records)).toEqual(new Set([0, 2, 4, 6, 8]));
    expect(late.records).toHaveLength(COUNT / 2);
  });

  async function failureOf(main: JobMain): Promise<string> {
    const slots = await Slots.start(main);
    return slots.finish().then(
      () => "finished",
      (failure: { readonly code: string; readonly message: string }) => `${failure.code}: ${failure.message}`,
    );
  }

  test("a side output that the job does not read fails the job instead of losing records", async () => {
    const failed = failureOf((env) => {
      const routed = env.fromSource(numbers()).uid("n").process(new Route(), Types.LONG()).name("route").uid("r");
      routed.sinkTo(new ArraySink());
      routed.getSideOutput(LATE).sinkTo(new ArraySink());
    });
    expect(await failed).toBe(
      'JOB_GRAPH_INVALID: operator "route" (uid r) emitted into side output "text", which the job does not read',
    );
  });

  test("a tag that is read as another type than it was written", async () => {
    const failed = failureOf((env) => {
      const routed = env.fromSource(numbers()).uid("n").process(new Route(), Types.LONG()).name("route").uid("r");
      routed.sinkTo(new ArraySink());
      routed.getSideOutput(new OutputTag("late", Types.STRING())).sinkTo(new ArraySink());
    });
    expect(await failed).toBe(
      'TYPE_MISMATCH: operator "route" (uid r): emitted into side output "late" as LONG, but the job reads it as STRING',
    );
  });
});
